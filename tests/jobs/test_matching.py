from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.matching import Assignment, Need, Offer, Plan, fits, match, misfit

PROFILE, OTHER_PROFILE = (UUID(int=900), 1), (UUID(int=901), 1)
BED = (220.0, 220.0, 250.0)


def printer(n: int) -> UUID:
    return UUID(int=100 + n)


def job(n: int) -> UUID:
    return UUID(int=200 + n)


def offer(n: int, **fields: Any) -> Offer:
    return Offer(**{"printer_id": printer(n), "name": f"P{n}", "profile": PROFILE, "size_mm": BED, **fields})


def need(n: int, **fields: Any) -> Need:
    everywhere = frozenset(printer(k) for k in range(10))
    return Need(**{"job_id": job(n), "allowed": everywhere, "size_mm": (40.0, 30.0, 20.0), **fields})


def pairs(plan: Plan) -> list[tuple[UUID, UUID]]:
    return [(assignment.job_id, assignment.printer_id) for assignment in plan.assignments]


# -- the order
def test_the_oldest_job_goes_first_and_takes_the_first_printer_by_name() -> None:
    assert pairs(match([need(1), need(2)], [offer(2), offer(1)])) == [(job(1), printer(1)), (job(2), printer(2))]


def test_a_job_that_fits_nowhere_now_does_not_block_those_behind_it() -> None:
    plan = match([need(1, printer_id=printer(1)), need(2)], [offer(1, unready="is offline"), offer(2)])
    assert pairs(plan) == [(job(2), printer(2))]
    assert plan.reasons == {job(1): "Waiting: P1 is offline."}


def test_a_job_that_names_a_printer_gets_no_other() -> None:
    assert pairs(match([need(1, printer_id=printer(2))], [offer(1), offer(2)])) == [(job(1), printer(2))]


def test_every_copy_gets_a_printer_of_its_own() -> None:
    plan = match([need(1), need(1), need(1)], [offer(1), offer(2)])
    assert pairs(plan) == [(job(1), printer(1)), (job(1), printer(2))]
    assert plan.reasons == {job(1): "Waiting its turn: jobs before it take the free printers."}


def test_what_it_was_sliced_for_comes_before_the_name() -> None:
    offers = [offer(1, profile=OTHER_PROFILE), offer(2)]
    assert pairs(match([need(1, sliced_for=frozenset({PROFILE}))], offers)) == [(job(1), printer(2))]
    assert pairs(match([need(1, sliced_for=frozenset({OTHER_PROFILE}))], offers)) == [(job(1), printer(1))]


def test_without_printers_everybody_waits_and_is_told_why() -> None:
    plan = match([need(1)], [])
    assert plan.assignments == ()
    assert plan.reasons == {job(1): "There is no printer that its owner may use. Ask the people who run the lab."}


# -- what fits
@pytest.mark.parametrize(
    ("wanted", "offered", "reason"),
    [
        ({}, {}, None),
        ({"printer_id": printer(1)}, {}, None),
        ({"printer_id": printer(2)}, {}, "is not the printer that was asked for"),
        ({"allowed": frozenset()}, {}, "is not one its owner may print on"),
        ({"profile": PROFILE, "size_mm": None}, {}, None),
        ({"profile": (PROFILE[0], 2), "size_mm": None}, {}, "has another profile (or a newer revision of it)"),
        ({"profile": OTHER_PROFILE, "size_mm": None}, {}, "has another profile (or a newer revision of it)"),
        ({"profiles": frozenset({PROFILE[0]})}, {}, None),
        ({"profiles": frozenset()}, {}, "has another nozzle or filament"),
        ({"size_mm": BED}, {}, None),
        ({"size_mm": (220.001, 1.0, 1.0)}, {}, "is too small"),
        ({"size_mm": (1.0, 1.0, 251.0)}, {}, "is too small"),
        ({"size_mm": (20.0, 10.0, 10.0)}, {"size_mm": (10.0, 20.0, 20.0)}, "is too small"),
        ({"allowed": frozenset(), "size_mm": (900.0, 1.0, 1.0)}, {}, "is not one its owner may print on"),
    ],
)
def test_it_says_why_a_printer_does_not_suit(
    wanted: dict[str, Any], offered: dict[str, Any], reason: str | None
) -> None:
    found = misfit(need(1, **wanted), offer(1, **offered))
    assert (found is None) if reason is None else str(found).startswith(reason)


def test_a_part_as_large_as_the_volume_fits() -> None:
    assert fits(BED, BED)
    assert not fits((BED[0] + 1e-9, 1, 1), BED)


# -- reasons
@pytest.mark.parametrize(
    ("wanted", "offers", "reason"),
    [
        ({}, [offer(1, unready="is offline")], "Waiting: P1 is offline."),
        (
            {},
            [offer(n, unready="is busy") for n in range(1, 6)],
            "Waiting: P1 is busy; P2 is busy; P3 is busy; and 2 more.",
        ),
        ({}, [offer(1, unready="is switched off", out=True)], "Waiting: P1 is switched off."),
        (
            {},
            [offer(1, unready="is switched off", out=True), offer(2, unready="is busy")],
            "Waiting: P2 is busy.",  # nobody waits for a printer that is off while another will do
        ),
        ({"size_mm": (900.0, 1.0, 1.0)}, [offer(1)], "It fits no printer: P1 is too small for this part."),
        (
            {"printer_id": printer(1), "size_mm": (900.0, 1.0, 1.0)},
            [offer(1), offer(2)],
            "It cannot be printed: P1 is too small for this part.",
        ),
        (
            {"allowed": frozenset({printer(2)})},
            [offer(1)],
            "There is no printer that its owner may use. Ask the people who run the lab.",
        ),
    ],
)
def test_everyone_who_waits_is_told_why(wanted: dict[str, Any], offers: list[Offer], reason: str) -> None:
    plan = match([need(1, **wanted)], offers)
    assert plan.assignments == ()
    assert plan.reasons == {job(1): reason}


def test_who_waits_behind_others_and_for_a_printer_is_told_both() -> None:
    plan = match([need(1), need(2)], [offer(1), offer(2, unready="is busy")])
    assert plan.reasons == {job(2): "Waiting: P2 is busy. Jobs before it take the other printers."}


# -- whatever the lab looks like
offers = st.lists(
    st.builds(
        offer,
        st.integers(0, 6),
        unready=st.sampled_from(["", "", "is busy"]),
        profile=st.sampled_from([PROFILE, OTHER_PROFILE]),
        size_mm=st.sampled_from([BED, (100.0, 100.0, 100.0)]),
    ),
    max_size=7,
    unique_by=lambda o: o.printer_id,
)
needs = st.lists(
    st.builds(
        need,
        st.integers(0, 6),
        allowed=st.frozensets(st.builds(printer, st.integers(0, 6)), max_size=7),
        printer_id=st.none() | st.builds(printer, st.integers(0, 6)),
        size_mm=st.sampled_from([(40.0, 30.0, 20.0), (150.0, 150.0, 150.0)]),
        sliced_for=st.frozensets(st.sampled_from([PROFILE, OTHER_PROFILE])),
    ),
    max_size=10,
)


@given(needs, offers)
def test_whatever_waits_and_whatever_is_free(waiting: list[Need], lab: list[Offer]) -> None:
    plan = match(waiting, lab)
    by_id = {o.printer_id: o for o in lab}
    given_away = [a.printer_id for a in plan.assignments]
    assert len(given_away) == len(set(given_away)), "a printer was given away twice"
    assert not any(by_id[pk].unready for pk in given_away)
    left = list(plan.assignments)
    for n in waiting:  # in order: each got the first assignment of its job, or nothing suitable was left
        mine = next((a for a in left if a.job_id == n.job_id and misfit(n, by_id[a.printer_id]) is None), None)
        if mine is not None:
            left.remove(mine)
        else:
            assert n.job_id in plan.reasons
            free = [o for o in lab if not o.unready and o.printer_id not in given_away]
            assert not [o for o in free if misfit(n, o) is None], "it waits although a printer is free"
    assert not left


@given(needs, offers)
def test_in_which_order_the_database_lists_printers_does_not_matter(waiting: list[Need], lab: list[Offer]) -> None:
    assert match(waiting, lab).assignments == match(waiting, list(reversed(lab))).assignments


def test_a_younger_job_never_takes_the_only_printer_from_an_older_one() -> None:
    plan = match([need(1, printer_id=printer(1)), need(2)], [offer(1)])
    assert plan.assignments == (Assignment(job_id=job(1), printer_id=printer(1)),)
