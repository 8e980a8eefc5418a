from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.base import ContentFile
from pytest_django import Settings

from farm.errors import FarmError, Invalid, Unavailable
from jobs import attempts, preparing, services
from jobs.models import Job, Print
from jobs.states import JobStatus
from printers.models import Printer, Role
from slicing.models import Gcode, Model3D, PrinterProfile
from tests.cast import Cast, gcode, grant, model, printer
from tests.shapes import box
from tests.work import Shop, Work, committed, workers_die

pytestmark = pytest.mark.django_db


def now(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


class Slicer:
    """In place of the real one, which has tests of its own. ``calls``: the profiles it sliced for; ``does``: what
    happens in the middle of the next slice."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.does: Callable[[], Any] = lambda: None
        self.steps: tuple[float, ...] = (0.5,)

    def __call__(
        self, model: Model3D, profile: PrinterProfile, overrides: Any, progress: Callable[[float], None], *_: Any
    ) -> Gcode:
        self.calls.append(profile.name)
        doing, self.does = self.does, lambda: None
        doing()
        for step in self.steps:
            progress(step)
        row = Gcode(
            name=model.name, bytes=4, sha256="0" * 64, profile=profile, profile_revision=profile.revision, time_s=60.0,
            filament_mm=1.0, filament_g=1.0, layers=1,
        )  # fmt: skip
        row.file.save(model.name, ContentFile(b"G28\n"))
        return row


def fails(error: BaseException) -> Callable[[], Any]:
    def fail() -> None:
        raise error

    return fail


@pytest.fixture
def slicer(monkeypatch: pytest.MonkeyPatch) -> Slicer:
    made = Slicer()
    monkeypatch.setattr(preparing, "slice_model", made)
    monkeypatch.setattr(preparing, "_SAY_EVERY", 0)
    return made


def submitted(cast: Cast, **fields: Any) -> Job:
    with committed():
        return services.submit(cast.sam, model=fields.pop("model", None) or model(cast.sam), **fields)


# -- into the queue
def test_a_model_is_sliced_and_waits_in_the_queue(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    work.do(work.waiting.pop())
    assert now(row) == "ready"
    assert (row.gcode and row.gcode.time_s, row.slice_progress, row.worker_until) == (60.0, 1.0, None)
    assert work.names() == ["jobs.dispatch"]


def test_the_real_slicer_makes_what_the_printer_gets(shop: Shop) -> None:
    corners = ("".join(f"vertex {a} {b} {c}\n" for a, b, c in facet) for facet in box(10, 10, 1))
    facets = "".join(f"facet normal 0 0 0\nouter loop\n{three}endloop\nendfacet\n" for three in corners)
    part = model(shop.cast.sam, "tile.stl", size=(10, 10, 1))
    part.file.save("tile.stl", ContentFile(f"solid tile\n{facets}endsolid tile\n".encode()))
    row = submitted(shop.cast, model=part, printer=shop.anvil)
    shop.clear()
    shop.work.do_all()
    shop.go_on()
    live = row.prints.get()
    assert (now(live), live.gcode) == ("printing", Job.objects.get().gcode)
    (sent,) = shop.machine.files.values()
    assert sent.count(b"G1 ") > 50


def test_a_lab_that_approves_sees_it_after_slicing(cast: Cast, work: Work, slicer: Slicer, settings: Settings) -> None:
    settings.FARM_APPROVAL = True
    row = submitted(cast)
    work.do_all()
    assert now(row) == "awaiting_approval"
    assert row.gcode is not None
    with committed():
        services.approve(row, cast.ada)
    assert now(row) == "ready"


def test_it_is_sliced_for_the_printer_that_was_asked_for(cast: Cast, work: Work, slicer: Slicer) -> None:
    grant(cast.sam, printer("Zebra", by=cast.ada, profile=PrinterProfile.objects.create(name="Wide")), Role.SUBMIT)
    submitted(cast, printer=Printer.objects.get(name="Zebra"))
    submitted(cast)
    work.do_all()
    assert slicer.calls == ["Wide", cast.anvil.profile.name]


# -- what goes wrong
@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (Invalid("The model has a hole at 10, 20, 3 mm. Repair it.", code="not_sliced"), None),
        (
            ZeroDivisionError("bug"),
            "The slicer stumbled over this model. Ask the people who run the lab: their log has the details.",
        ),
        (
            MemoryError(),
            "The slicer stumbled over this model. Ask the people who run the lab: their log has the details.",
        ),
    ],
    ids=["no model to slice", "a bug", "no memory"],
)
def test_what_cannot_be_sliced_ends_in_a_sentence_for_its_owner(
    cast: Cast, work: Work, slicer: Slicer, error: Exception, sentence: str | None
) -> None:
    row = submitted(cast)
    slicer.does = fails(error)
    work.do_all()
    assert (now(row), row.message) == ("failed", sentence or str(error))
    assert row.ended_at is not None
    assert not row.prints.exists()


def test_a_job_whose_printers_are_all_gone_is_told_so(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    cast.anvil.grants.all().delete()
    work.do_all()
    assert (now(row), row.message) == (
        "failed",
        "There is no printer that its owner may use and that this part fits on. Ask the people who run the lab.",
    )
    assert slicer.calls == []


def test_what_is_away_for_a_moment_is_tried_again(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    slicer.does = fails(Unavailable("The disk does not answer."))
    with pytest.raises(FarmError, match="The disk does not answer"):
        work.do_all()
    assert now(row) == "preparing"
    workers_die()
    work.do(("jobs.slice", str(row.pk)))
    assert now(row) == "ready"


def test_a_model_that_kills_every_slicer_is_given_up(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    for _ in range(preparing.MOST_ATTEMPTS):
        slicer.does = fails(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            work.do(("jobs.slice", str(row.pk)))
        workers_die()
    work.do(("jobs.slice", str(row.pk)))
    assert now(row) == "failed"
    assert row.message.startswith("Slicing this model stopped the slicer every time.")
    assert len(slicer.calls) == preparing.MOST_ATTEMPTS


# -- while it is being sliced
def test_its_owner_sees_how_far_it_is(cast: Cast, work: Work, slicer: Slicer, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted(cast)
    seen: list[float] = []
    monkeypatch.setattr(services, "announce", lambda job: seen.append(Job.objects.get(pk=job.pk).slice_progress))
    slicer.steps = (0.25, 0.75)
    work.do_all()
    assert seen[:2] == [0.25, 0.75]


def test_not_every_step_is_written_down(
    cast: Cast, work: Work, slicer: Slicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "_SAY_EVERY", 3600)
    row = submitted(cast)
    seen: list[float] = []
    slicer.steps = (0.25, 0.75)
    monkeypatch.setattr(services, "announce", lambda job: seen.append(Job.objects.get(pk=job.pk).slice_progress))
    work.do_all()
    assert set(seen) == {1.0}
    assert now(row) == "ready"


def test_its_owner_takes_it_back_in_the_middle(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    slicer.does = lambda: services.cancel(Job.objects.get(), cast.sam)
    work.do_all()
    assert (now(row), row.gcode, row.message) == ("cancelled", None, "Cancelled by Sam.")


def test_its_owner_takes_it_back_at_the_last_moment(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    slicer.steps = ()
    slicer.does = lambda: services.cancel(Job.objects.get(), cast.sam)
    work.do_all()
    assert (now(row), row.gcode) == ("cancelled", None)


# -- tasks that come twice
def test_a_redelivered_task_slices_nothing_the_second_time(cast: Cast, work: Work, slicer: Slicer) -> None:
    row = submitted(cast)
    again = ("jobs.slice", str(row.pk))
    slicer.does = lambda: work.do(again)  # at the same time
    work.do_all()
    work.redeliver("jobs.slice")  # and afterwards
    assert len(slicer.calls) == 1
    assert now(row) == "ready"


def test_a_worker_that_was_taken_for_dead_and_comes_back_changes_nothing(
    cast: Cast, work: Work, slicer: Slicer
) -> None:
    row = submitted(cast)

    def another() -> None:
        workers_die()
        work.do(("jobs.slice", str(row.pk)))

    slicer.does, slicer.steps = another, ()
    work.do_all()
    assert (now(row), len(slicer.calls)) == ("ready", 2)
    assert row.events.filter(new=JobStatus.READY).count() == 1


# -- again, for another printer
@pytest.fixture
def zebra(shop: Shop) -> Printer:
    """Sam's job is sliced for Anvil, and only Zebra is free, which has another profile."""
    wide = PrinterProfile.objects.create(name="Wide")
    made = printer("Zebra", by=shop.cast.ada, profile=wide, bed_clear=True)
    grant(shop.cast.sam, made, Role.SUBMIT)
    shop.ready()
    shop.work.do(("jobs.dispatch",))
    return made


def test_a_job_that_takes_any_printer_is_sliced_again_for_the_one_it_gets(
    shop: Shop, zebra: Printer, slicer: Slicer
) -> None:
    live = Print.objects.get()
    assert (live.printer, live.gcode) == (zebra, None)
    shop.work.do(shop.work.waiting.pop())
    assert (now(live), live.message) == ("uploading", "Being sliced for Zebra.")
    assert shop.work.names() == ["jobs.slice"]
    shop.work.do_all()
    assert now(live) == "starting"
    assert slicer.calls == ["Wide"]
    assert live.gcode is not None
    assert live.gcode.profile == zebra.profile
    assert live.job.gcode != live.gcode  # what it was sliced to first stays
    assert list(shop.machines[zebra].files) == [live.remote_path]


def test_what_is_sliced_for_that_profile_already_is_used(
    shop: Shop, zebra: Printer, slicer: Slicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = gcode(zebra)
    monkeypatch.setattr(attempts, "cached_gcode", lambda *_: there)
    shop.work.do_all()
    assert Print.objects.get().gcode == there
    assert slicer.calls == []


def test_what_cannot_be_sliced_for_that_printer_gives_it_back(shop: Shop, zebra: Printer, slicer: Slicer) -> None:
    slicer.does = fails(Invalid("It is too thin for this nozzle."))
    shop.work.do_all()
    live = Print.objects.get()
    assert (live.status, live.message, live.spent) == ("failed", "It is too thin for this nozzle.", False)
    assert now(live.job) == "ready"
    assert shop.bed_is_clear(zebra)


def test_a_bug_while_slicing_again_is_a_sentence_too(shop: Shop, zebra: Printer, slicer: Slicer) -> None:
    slicer.does = fails(ZeroDivisionError())
    shop.work.do_all()
    assert Print.objects.get().message.startswith("The slicer stumbled over this model.")


def test_its_owner_takes_it_back_while_it_is_sliced_again(shop: Shop, zebra: Printer, slicer: Slicer) -> None:
    slicer.does = lambda: services.cancel(Job.objects.get(), shop.cast.sam)
    shop.work.do_all()
    live = Print.objects.get()
    assert (live.status, now(live.job), live.gcode) == ("cancelled", "cancelled", None)
    assert shop.bed_is_clear(zebra)
    assert shop.machines[zebra].files == {}


def test_slicing_again_is_not_done_twice(shop: Shop, zebra: Printer, slicer: Slicer) -> None:
    live = Print.objects.get()
    slicer.does = lambda: shop.work.do(("jobs.slice", str(live.job_id), str(live.pk)))
    shop.work.do_all()
    shop.work.redeliver("jobs.slice")
    assert slicer.calls == ["Wide"]
    assert (now(live), len(shop.starts())) == ("starting", 1)


def test_a_print_that_kills_every_slicer_is_given_up(shop: Shop, zebra: Printer, slicer: Slicer) -> None:
    live = Print.objects.get()
    shop.work.do(shop.work.waiting.pop())
    for _ in range(attempts.MOST_WORKERS):
        slicer.does = fails(KeyboardInterrupt())
        try:
            shop.work.do(("jobs.slice", str(live.job_id), str(live.pk)))
        except KeyboardInterrupt:
            workers_die()
    assert now(live) == "failed"
    assert live.message.startswith("Slicing this model stopped the slicer every time.")
    assert shop.bed_is_clear(zebra)


def test_a_profile_that_changed_after_the_claim_is_sliced_for_as_it_is_now(shop: Shop, slicer: Slicer) -> None:
    live = shop.claimed()
    PrinterProfile.objects.filter(pk=shop.anvil.profile_id).update(revision=7)
    shop.work.do_all()
    assert now(live) == "starting"
    assert live.gcode is not None
    assert live.gcode.profile_revision == 7


def test_uploaded_gcode_is_not_sliced_when_the_profile_changed_after_the_claim(shop: Shop, slicer: Slicer) -> None:
    live = shop.claimed()
    Job.objects.update(model=None)
    PrinterProfile.objects.filter(pk=shop.anvil.profile_id).update(revision=7)
    shop.work.do_all()
    assert (now(live), live.message) == (
        "failed",
        "The profile of Anvil is no longer what its G-code was made for.",
    )
    assert slicer.calls == []
    assert shop.bed_is_clear()
