"""The eight invariants of the farm, each broken on purpose.

The seventh, who may see and touch what, is tried door by door in tests/farm/test_rights.py. Constraints are tried on
both databases. What two processes may do at the same time is tried on a real PostgreSQL, with a connection for each;
what may happen in any order is tried in tests/test_any_order.py.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar
from uuid import uuid4

import dj_database_url
import psycopg
import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction
from pytest_django import DjangoDbBlocker

from farm.errors import Conflict
from jobs import attempts, dispatch, services
from jobs.matching import Assignment, Need, Offer, Plan, match
from jobs.models import Job, Print
from jobs.states import PRINT_LIVE, PrintStatus
from printers import commands, lane, telemetry
from printers import services as printers
from printers.credentials import unseal
from printers.drivers.base import Outcome, PrinterState, PrinterStatus, Unclear
from printers.models import BedClear, Command, CommandKind, CommandStatus, Lease, Printer, Role
from tests.api import api
from tests.cast import KEY, Cast, as_, attempt, gcode, grant, job, printer
from tests.machines import Machines, away
from tests.work import FakeTask, Shop, Work, committed, expire, lapse, workers_die

T = TypeVar("T")
ROOMS = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """No printer falls silent here because a test is slow."""
    monkeypatch.setattr(telemetry, "STALE_AFTER", 3600.0)


# -- databases
@contextmanager
def connected_to(config: dict[str, Any]) -> Iterator[None]:
    """This thread, and every one that begins now, uses another database."""
    ours, before = connections["default"], connections.settings["default"]
    connections.settings["default"] = config
    connections["default"] = connections.create_connection("default")
    ContentType.objects.clear_cache()
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"], connections.settings["default"] = ours, before
        ContentType.objects.clear_cache()


def config_of(url: str, name: str) -> dict[str, Any]:
    given = {**dj_database_url.parse(url), "NAME": name}
    return connections.configure_settings({"default": given})["default"]


@pytest.fixture(scope="module")
def migrated(postgres_url: str, django_db_blocker: DjangoDbBlocker) -> str:
    """The name of a database with all tables, to be copied."""
    with psycopg.connect(postgres_url, autocommit=True) as server:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives the test
            server.execute(f"ALTER SYSTEM SET {setting} = off")
        server.execute("SELECT pg_reload_conf()")
        server.execute("CREATE DATABASE invariants")
    with django_db_blocker.unblock(), connected_to(config_of(postgres_url, "invariants")):
        call_command("migrate", verbosity=0)
    return "invariants"


@pytest.fixture
def postgres(postgres_url: str, migrated: str, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A PostgreSQL database for this test alone; every commit is a real one."""
    name = f"invariants_{uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {migrated}")
    with django_db_blocker.unblock(), connected_to(config_of(postgres_url, name)):
        telemetry.client().flushdb()
        yield


@pytest.fixture
def crowd(postgres: None, machines: Machines, work: Work) -> Shop:
    """Anvil's shop on PostgreSQL."""
    return Shop(Cast(), machines, work)


@pytest.fixture
def shop(cast: Cast, machines: Machines, work: Work) -> Shop:
    return Shop(cast, machines, work)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def both(request: pytest.FixtureRequest) -> Shop:
    """A shop on each of the databases."""
    found: Shop = request.getfixturevalue("shop" if request.param == "sqlite" else "crowd")
    assert connections["default"].vendor == request.param
    return found


def at_once(*works: Callable[[], T]) -> list[T]:
    """Each in a thread and on a database connection of its own, as in processes of their own."""
    gate = Barrier(len(works))

    def run(work: Callable[[], T]) -> T:
        try:
            gate.wait(60)
            return work()
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(len(works)) as pool:
        return [done.result(60) for done in [pool.submit(run, work) for work in works]]


def elsewhere(look: Callable[[], T]) -> T:
    """What another process sees: only what is committed."""
    return at_once(look)[0]


@contextmanager
def refused_by_database() -> Iterator[None]:
    with pytest.raises(IntegrityError), transaction.atomic():
        yield


def now(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def held(shop: Shop, names: str = "Cellar Third") -> list[Printer]:
    """Anvil and these, on all of which Sam and Tina may print; idle, and their beds are clear."""
    cast, rows = shop.cast, [shop.anvil]
    for name in names.split():
        row = cast.cellar if name == "Cellar" else printer(name, by=cast.ada)
        for user in (cast.sam, cast.tina):
            grant(user, row, Role.SUBMIT)
        rows.append(row)
    for row in rows:
        shop.clear(row)
    shop.work.lose()
    return rows


# -- 1: one function writes status, with an event
def _status_writes(source: str) -> list[str]:
    """Where a status is assigned, or given to an UPDATE by name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            found += [ast.unparse(node) for word in node.keywords if word.arg == "status"]
        elif isinstance(node, ast.Assign):
            found += [ast.unparse(node) for to in node.targets if isinstance(to, ast.Attribute) and to.attr == "status"]
    return found


def test_no_other_code_than_advance_writes_the_status_of_a_job_or_print() -> None:
    assert _status_writes("Job.objects.filter(pk=1).update(status='ready')")
    assert _status_writes("job.status = 'ready'")
    files = [file for file in (ROOMS / "jobs").rglob("*.py") if "migrations" not in file.parts]
    assert len(files) > 10
    assert {file.name: found for file in files if (found := _status_writes(file.read_text()))} == {}


def test_every_status_has_an_event(shop: Shop) -> None:
    with committed():
        row = services.submit(shop.cast.olivia, gcode=gcode(shop.anvil))
    shop.clear()
    shop.work.do_all()
    shop.go_on()
    shop.machine.end()
    shop.bridge.hear()
    for of in (None, row.prints.get()):
        events = list(row.events.filter(print=of))
        assert [event.old for event in events] == ["", *(event.new for event in events[:-1])]
        assert events[-1].new == "completed"


@pytest.mark.postgres
def test_of_those_who_change_a_status_at_once_one_does(crowd: Shop) -> None:
    live = attempt(job(crowd.cast.sam), crowd.anvil)
    ends = [Print.objects.get(pk=live.pk) for _ in range(4)]
    outcomes = [PrintStatus.COMPLETED, PrintStatus.FAILED, PrintStatus.CANCELLED, PrintStatus.FAILED]
    won = at_once(*(lambda p=p, to=to: services.advance(p, to) for p, to in zip(ends, outcomes, strict=True)))
    assert won.count(True) == 1
    assert live.events.get().new == now(live) == outcomes[won.index(True)]
    assert {now(row) for row in ends} == {now(live)}
    assert now(live.job) == now(live)


@pytest.mark.postgres
def test_a_job_whose_last_copies_end_at_once_ends_too(crowd: Shop) -> None:
    row = job(crowd.cast.sam, copies=3)
    copies = [attempt(row, on) for on in held(crowd)]
    at_once(*(lambda copy=copy: services.advance(copy, PrintStatus.COMPLETED) for copy in copies))
    crowd.work.sweep()  # each may have seen the others live
    assert (now(row), row.message) == ("completed", "3 of 3 printed.")


# -- 2: one live print per printer, one bridge per printer
@pytest.mark.parametrize("second", PRINT_LIVE)
def test_the_database_refuses_a_second_live_print_on_a_printer(both: Shop, second: PrintStatus) -> None:
    first = attempt(job(both.cast.sam), both.anvil, PrintStatus.UNKNOWN)
    with refused_by_database():
        attempt(job(both.cast.tina), both.anvil, second)
    ended = attempt(job(both.cast.tina), both.anvil, PrintStatus.FAILED)
    with refused_by_database():
        Print.objects.filter(pk=ended.pk).update(status=second)
    with refused_by_database():
        elsewhere_live = attempt(job(both.cast.tina), both.cast.cellar, second)
        Print.objects.filter(pk=elsewhere_live.pk).update(printer=both.anvil)
    assert Print.objects.filter(printer=both.anvil, status__in=PRINT_LIVE).get() == first


@pytest.fixture
def same_plan(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Schedulers wait for each other after planning: all claim what all saw free."""

    def of(count: int) -> None:
        gate = Barrier(count)

        def together(needs: list[Need], offers: list[Offer]) -> Plan:
            plan = match(needs, offers)
            gate.wait(60)
            return plan

        monkeypatch.setattr(dispatch, "match", together)

    return of


@pytest.mark.postgres
def test_schedulers_with_the_same_plan_give_every_printer_one_print(
    crowd: Shop, same_plan: Callable[[int], None]
) -> None:
    rows = held(crowd)
    oldest = [job(crowd.cast.sam, name="two", copies=2), job(crowd.cast.tina, name="one")]
    later = job(crowd.cast.sam, name="later")
    same_plan(4)
    claimed = at_once(*[dispatch.dispatch] * 4)
    assert sum(claimed) == Print.objects.count() == len(rows)
    assert set(Print.objects.values_list("printer", "status")) == {(row.pk, "uploading") for row in rows}
    assert [row.prints.count() for row in (*oldest, later)] == [2, 1, 0]
    assert sorted(crowd.work.names()) == ["jobs.send"] * 3
    assert {row.pk: row.claims for row in Job.objects.all()} == {oldest[0].pk: 2, oldest[1].pk: 1, later.pk: 0}


@pytest.mark.postgres
def test_schedulers_that_never_rest_print_everything_once_and_in_order(crowd: Shop) -> None:
    rows = held(crowd)
    wanted = [job(crowd.cast.sam if n % 2 else crowd.cast.tina, name=f"{n:02}") for n in range(15)]
    for _ in range(5):
        at_once(*[dispatch.dispatch] * 3)
        live = list(Print.objects.filter(status__in=PRINT_LIVE))
        assert len(live) == len(rows)
        for copy in live:
            assert printers.use_bed(copy.printer_id, copy.bed_clear.n)  # type: ignore[arg-type, union-attr]
            services.advance(copy, PrintStatus.STARTING)
            services.advance(copy, PrintStatus.COMPLETED)
        for row in rows:
            crowd.clear(row)
    order = [copy.job.name for copy in Print.objects.order_by("created_at")]
    assert sorted(order) == [row.name for row in wanted]
    for place in range(0, 15, 3):  # three printers, three jobs: whoever came first
        assert sorted(order[place : place + 3]) == [f"{n:02}" for n in range(place, place + 3)]
    assert set(Job.objects.values_list("status", flat=True)) == {"completed"}


@pytest.mark.postgres
def test_bridges_that_look_at_once_share_the_printers(crowd: Shop) -> None:
    rows = held(crowd)
    Lease.objects.update(holder="", expires_at=None)
    taken = at_once(*(lambda name=name: printers.take_leases(name, 10) for name in "abcd"))
    assert sorted(row.name for some in taken for row, _ in some) == sorted(row.name for row in rows)
    for holder, some in zip("abcd", taken, strict=True):
        assert printers.renew_leases(holder) == {row.pk: fence for row, fence in some}


def test_a_lease_goes_on_only_when_it_ran_out_and_its_fence_only_grows(both: Shop) -> None:
    first = both.bridge.fence
    assert printers.take_leases("successor", 10) == []
    lapse(both.anvil)
    assert printers.renew_leases("bridge").get(both.anvil.pk) is None  # too late, though nobody has it yet
    assert dict(printers.take_leases("successor", 10))[both.anvil] == first + 1
    printers.drop_leases("bridge")
    assert Lease.objects.get(printer=both.anvil).holder == "successor"


def test_a_frozen_bridge_whose_lease_went_on_can_do_and_say_nothing(both: Shop) -> None:
    live = both.starting()
    frozen = both.bridge
    lapse(both.anvil)
    successor = FakeTask(both.anvil, both.machines, "successor")
    successor.hear()

    frozen.run_lane()
    assert both.machine.starts == []
    bed = Printer.objects.get(pk=both.anvil.pk).bed
    both.machine.begin("an old dream.gcode")
    frozen.hear()
    assert Printer.objects.get(pk=both.anvil.pk).bed == bed
    both.machine.forget()
    frozen.before = None
    telemetry.put(both.anvil.pk, frozen.fence, 10**9, PrinterState(status=PrinterStatus.ERROR))
    assert telemetry.read([both.anvil.pk])[both.anvil.pk].state.status == PrinterStatus.IDLE

    both.machine.starts.clear()
    successor.run_lane()
    successor.hear()
    assert now(live) == "printing"
    assert both.machine.starts == [live.remote_path]


# -- 3: one start per cleared bed
def test_the_database_allows_one_clear_per_bed_and_one_print_per_clear(both: Shop) -> None:
    both.clear()
    clear = BedClear.objects.get()
    with refused_by_database():
        BedClear.objects.create(printer=both.anvil, n=clear.n)
    attempt(job(both.cast.sam), both.anvil, PrintStatus.COMPLETED, bed_clear=clear)
    with refused_by_database():
        attempt(job(both.cast.tina), both.anvil, PrintStatus.UPLOADING, bed_clear=clear)
    other = attempt(job(both.cast.tina), both.anvil, PrintStatus.UPLOADING)
    with refused_by_database():
        Print.objects.filter(pk=other.pk).update(bed_clear=clear)


@pytest.mark.postgres
def test_of_those_who_claim_one_clear_at_once_one_gets_it(crowd: Shop) -> None:
    crowd.clear()
    rows = [job(crowd.cast.sam) for _ in range(4)]
    plans = [Assignment(job_id=row.pk, printer_id=crowd.anvil.pk) for row in rows]
    claimed = at_once(*(lambda plan=plan: dispatch.claim(plan, claims=0) for plan in plans))
    assert claimed.count(True) == 1
    assert Print.objects.get().job == rows[claimed.index(True)]
    assert sorted(Job.objects.values_list("status", "claims")) == [("active", 1)] + [("ready", 0)] * 3


@pytest.mark.postgres
def test_a_bed_that_several_people_clear_at_once_is_cleared_once(crowd: Shop) -> None:
    crowd.anvil.refresh_from_db()
    n, people = crowd.anvil.bed, [crowd.cast.ada, crowd.cast.olivia] * 2
    views = [(Printer.objects.get(pk=crowd.anvil.pk), user) for user in people]
    at_once(*(lambda p=p, u=u: printers.clear_bed(p, n, by=u) for p, u in views))
    assert BedClear.objects.get().n == n


@pytest.mark.postgres
def test_a_bed_that_is_soiled_while_it_is_cleared_or_used_is_not_clear(crowd: Shop) -> None:
    for _ in range(5):
        crowd.anvil.refresh_from_db()
        n = crowd.anvil.bed
        view = Printer.objects.get(pk=crowd.anvil.pk)

        def clear(view: Printer = view, n: int = n) -> None:
            with suppress(Conflict):
                printers.clear_bed(view, n, by=crowd.cast.ada)

        at_once(clear, lambda: printers.soil_bed(crowd.anvil.pk, "a print at the machine"))
        assert not crowd.bed_is_clear()
        crowd.clear()
        used = Printer.objects.get(pk=crowd.anvil.pk).bed
        at_once(
            partial(printers.use_bed, crowd.anvil.pk, used),
            partial(printers.soil_bed, crowd.anvil.pk, "a print at the machine"),
        )
        assert not crowd.bed_is_clear()
        assert not printers.use_bed(crowd.anvil.pk, used)


def test_a_late_clear_is_refused_and_a_doubled_one_is_harmless(shop: Shop) -> None:
    shop.anvil.refresh_from_db()
    seen = shop.anvil.bed
    shop.clear()
    printers.clear_bed(shop.anvil, seen, by=shop.cast.olivia)
    assert BedClear.objects.count() == 1
    live = shop.claimed()
    printers.clear_bed(shop.anvil, seen, by=shop.cast.ada)  # pressed again: the same clear, and it is taken
    assert BedClear.objects.count() == 1
    shop.work.do_all()
    shop.go_on()
    for bed in (seen, seen + 1):
        with pytest.raises(Conflict):  # another bed than was seen; a bed with a print on it
            printers.clear_bed(shop.anvil, bed, by=shop.cast.ada)
    shop.machine.end()
    shop.bridge.hear()
    with pytest.raises(Conflict, match="The bed has changed since you looked") as refusal:
        printers.clear_bed(shop.anvil, seen, by=shop.cast.ada)
    assert refusal.value.code == "bed_changed"
    assert now(live) == "completed"
    assert not shop.bed_is_clear()


def test_a_clear_that_was_meant_for_the_bed_before_starts_nothing_on_this_one(shop: Shop) -> None:
    """Ada looked, and while she walked back somebody printed a gift."""
    shop.anvil.refresh_from_db()
    seen = shop.anvil.bed
    shop.ready()
    shop.machine.begin("gift.gcode")
    shop.bridge.hear()
    shop.machine.end()
    shop.bridge.hear()
    with pytest.raises(Conflict, match="The bed has changed"), committed():
        printers.clear_bed(shop.anvil, seen, by=shop.cast.ada)
    shop.work.sweep()
    assert not Print.objects.exists()


def test_a_clear_that_was_tried_during_the_print_does_not_count_after_it(shop: Shop) -> None:
    """A program that asks again and again until nobody refuses."""
    live = shop.printing()
    shop.anvil.refresh_from_db()
    seen = shop.anvil.bed
    with pytest.raises(Conflict, match="The printer is not idle"):
        printers.clear_bed(shop.anvil, seen, by=shop.cast.ada)
    shop.machine.end()
    shop.bridge.hear()
    assert now(live) == "completed"
    with pytest.raises(Conflict, match="The bed has changed"):
        printers.clear_bed(shop.anvil, seen, by=shop.cast.ada)
    shop.clear()
    assert shop.bed_is_clear()


def test_a_new_printer_is_not_clear_unless_it_is_said_so(shop: Shop) -> None:
    made = {clear: printer(f"New {clear}", by=shop.cast.ada, bed_clear=clear) for clear in (True, False)}
    assert {clear: shop.bed_is_clear(row) for clear, row in made.items()} == {True: True, False: False}


def _foreign_print(shop: Shop) -> None:
    shop.machine.begin("gift.gcode")
    shop.bridge.hear()
    shop.machine.forget()


def _foreign_print_between_two_looks(shop: Shop) -> None:
    shop.machine.begin("gift.gcode")
    shop.machine.end()


def _emergency_stop(shop: Shop) -> None:
    commands.request_command(shop.anvil, CommandKind.EMERGENCY_STOP, {}, by=shop.cast.ada)
    shop.machine.forget()


def _print_while_nobody_listened(shop: Shop) -> None:
    lapse(shop.anvil)
    _foreign_print_between_two_looks(shop)
    shop.machine.records[-1:] = shop.machine.records[-1:] * 2  # its stream begins with the newest only
    shop.bridge = FakeTask(shop.anvil, shop.machines, "successor")


def _another_machine(shop: Shop) -> None:
    printers.change_printer(shop.anvil, url="http://127.0.0.1:10", api_key="key")


@pytest.mark.parametrize(
    "happens",
    [
        _foreign_print,
        _foreign_print_between_two_looks,
        _emergency_stop,
        _print_while_nobody_listened,
        _another_machine,
    ],
)
def test_whatever_may_have_put_plastic_on_the_bed_makes_it_not_clear(
    shop: Shop, happens: Callable[[Shop], None]
) -> None:
    shop.clear()
    happens(shop)
    shop.bridge.hear()
    shop.ready()
    shop.work.sweep()
    assert not shop.bed_is_clear()
    assert not Print.objects.exists()


def test_a_bridge_that_was_away_while_nothing_was_printed_leaves_the_bed_clear(shop: Shop) -> None:
    shop.clear()
    lapse(shop.anvil)
    FakeTask(shop.anvil, shop.machines, "successor").hear()
    assert shop.bed_is_clear()


@pytest.mark.parametrize("end", Outcome)
def test_every_end_after_a_start_leaves_a_bed_to_be_cleared(shop: Shop, end: Outcome) -> None:
    live = shop.printing()
    shop.machine.end(end)
    shop.bridge.hear()
    shop.ready(name="next")
    shop.work.sweep()
    assert (now(live), shop.bed_is_clear()) == (end, False)
    assert Print.objects.count() == 1


# -- 4: a start is sent at most once
def test_the_database_allows_one_start_command_per_print(both: Shop) -> None:
    live = both.starting()
    with refused_by_database():
        commands.queue_start(both.anvil, live.pk, live.remote_path)
    with refused_by_database():
        Command.objects.create(
            printer=both.anvil, kind=CommandKind.START, print_id=live.pk, created_at=both.starts()[0].created_at,
            expires_at=both.starts()[0].expires_at,
        )  # fmt: skip


@pytest.mark.postgres
def test_a_start_is_committed_before_it_is_sent(crowd: Shop) -> None:
    live = crowd.starting()
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        copy = Print.objects.get()
        seen.append((copy.status, copy.start_at is not None, crowd.starts()[0].status, crowd.bed_is_clear()))

    crowd.machine.meanwhile["start"] = lambda: elsewhere(look)
    crowd.go_on()
    assert seen == [("starting", True, "sent", False)]
    assert now(live) == "printing"


@pytest.mark.postgres
def test_workers_that_get_the_same_print_at_once_start_it_once(crowd: Shop) -> None:
    live = crowd.claimed()
    at_once(*[lambda: attempts.send(live.pk)] * 4)
    assert now(live) == "starting"
    assert len(crowd.machine.asked("upload")) == len(crowd.starts()) == 1
    at_once(*[lambda: attempts.send(live.pk)] * 2)
    crowd.go_on()
    assert crowd.machine.starts == [live.remote_path]


@pytest.mark.postgres
def test_lanes_that_find_the_same_start_at_once_send_it_once(crowd: Shop) -> None:
    live = crowd.starting()
    at_once(*[crowd.bridge.run_lane] * 4)
    assert crowd.machine.asked("start") == [(live.remote_path,)]


def test_a_bridge_that_froze_before_it_sent_the_start_does_not_send_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claimed, then frozen (a suspended machine, SIGSTOP) while the driver looked whether the printer is idle."""
    live = shop.starting()
    awake = lane.boot_time()
    shop.machine.meanwhile["start"] = lambda: monkeypatch.setattr(lane, "boot_time", lambda: awake + 6)
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    assert [start.status for start in shop.starts()] == [CommandStatus.EXPIRED]
    shop.work.do_all()
    assert (now(live), shop.bed_is_clear()) == ("failed", True)


def test_a_bridge_that_froze_while_it_sent_the_start_finds_the_file_gone(shop: Shop) -> None:
    """Nobody can know how long a packet lives: what was given up must not be possible any more."""
    live = shop.starting()

    def meanwhile() -> None:
        expire(shop.anvil, 120)
        shop.work.sweep()
        assert (now(live), shop.bed_is_clear()) == ("failed", True)

    shop.machine.meanwhile["start"] = meanwhile
    shop.bridge.run_lane()
    assert shop.machine.starts == []
    assert [start.status for start in shop.starts()][0] == CommandStatus.UNCLEAR  # its end was known already


def test_a_bed_that_turns_out_to_be_soiled_after_the_start_was_committed_is_not_printed_on(shop: Shop) -> None:
    """Nobody listened while a gift was printed; the successor learns of it with the start already in its hands."""
    live = shop.claimed()
    lapse(shop.anvil)
    shop.machine.begin("gift.gcode")
    shop.machine.end()
    shop.work.do_all()
    assert now(live) == "starting"
    shop.bridge = FakeTask(shop.anvil, shop.machines, "successor")
    shop.go_on()
    assert shop.machine.starts == ["gift.gcode"]
    assert (now(live), live.spent, shop.bed_is_clear()) == ("failed", False, False)


def test_a_start_whose_answer_never_comes_is_never_repeated(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.faults |= {"start": Unclear("No answer came."), "read_state": away()}
    shop.go_on()
    for _ in range(5):
        shop.work.redeliver("jobs.send")
        shop.work.redeliver("jobs.dispatch")
        workers_die()
        shop.bridge.run_lane()
        shop.work.sweep()
    assert now(live) == "unknown"
    assert (len(shop.machine.asked("start")), Print.objects.count()) == (1, 1)
    assert not shop.bed_is_clear()


@pytest.mark.postgres
def test_a_wish_at_the_moment_of_the_start_is_heard_or_cancels_the_print(crowd: Shop) -> None:
    for n in range(6):
        live = crowd.claimed(name=f"{n}")
        started = len(crowd.machine.starts)
        row = Job.objects.get(pk=live.job_id)
        at_once(lambda: attempts.send(live.pk), lambda: services.cancel(row, crowd.cast.sam))  # noqa: B023
        crowd.go_on()
        crowd.work.sweep()
        crowd.go_on()
        assert now(row) == now(live) == "cancelled"
        assert len(crowd.machine.starts) - started == (live.start_at is not None)
        assert crowd.machine.status == PrinterStatus.IDLE


# -- 5: remote names are unique
def test_the_database_refuses_a_remote_name_that_was_used_before(both: Shop) -> None:
    ended = attempt(job(both.cast.sam), both.anvil, PrintStatus.COMPLETED)
    other = attempt(job(both.cast.tina), both.cast.cellar, PrintStatus.UPLOADING)
    with refused_by_database():
        Print.objects.filter(pk=other.pk).update(remote_name=ended.remote_name)
    for _ in range(2):  # not named yet
        Print.objects.filter(pk=other.pk).update(remote_name="")


def test_every_try_of_every_attempt_has_a_name_of_its_own(shop: Shop) -> None:
    live = shop.claimed()
    for _ in range(3):
        shop.machine.faults["upload"] = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            shop.work.do(("jobs.send", str(live.pk)))
        workers_die()
    shop.machine.faults["upload"] = away()
    for _ in range(2):
        shop.work.sweep()
        Print.objects.update(ended_at=None)
    names = [name for (name,) in shop.machine.asked("upload")]
    assert len(set(names)) == len(names) == 5


# -- 6: what was forgotten is found again
def test_a_farm_whose_broker_forgets_everything_prints_all_the_same(shop: Shop) -> None:
    row = shop.ready()
    shop.clear()
    for step in (lambda: None, shop.bridge.run_lane, shop.bridge.hear, shop.machine.end, shop.bridge.hear):
        step()
        for _ in range(3):
            shop.work.lose()
            shop.work.sweep()
    assert now(row) == "completed"
    assert shop.machine.starts == [row.prints.get().remote_path]


def test_a_farm_whose_broker_repeats_everything_prints_it_once(shop: Shop) -> None:
    row = shop.ready()
    shop.clear()
    for step in (lambda: None, shop.bridge.run_lane, shop.bridge.hear, shop.machine.end, shop.bridge.hear):
        step()
        shop.work.do_all()
        for task in list(shop.work.done):
            shop.work.do(task)
        shop.work.do_all()
    assert now(row) == "completed"
    assert shop.machine.starts == [row.prints.get().remote_path]


# -- 8: printer credentials
def test_a_credential_is_nowhere_to_be_read(cast: Cast, work: Work, caplog: pytest.LogCaptureFixture) -> None:
    """With the real driver: it dials an address where nobody answers."""
    caplog.set_level("DEBUG")
    ada, path = api(cast.ada), f"/api/printers/{cast.anvil.pk}/"
    facts = {"name": "New", "kind": "moonraker", "url": "http://127.0.0.1:9", "api_key": KEY}
    answers: list[Any] = [
        ada.post("/api/printers/", facts), ada.post(f"{path}test/"), ada.get(f"{path}files/"), ada.get(path),
        ada.patch(path, {"api_key": f"{KEY}-2"}), ada.get("/api/printers/"), ada.get(f"{path}state/"),
        as_(cast.ada).get(f"/admin/printers/printer/{cast.anvil.pk}/change/"),
        as_(cast.ada).get(f"/printers/{cast.anvil.pk}/"),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [201, 503, 503, 200, 200, 200, 200, 200, 200]
    job(cast.sam, gcode=gcode(cast.anvil))
    cast.anvil.refresh_from_db()
    with committed():
        printers.clear_bed(cast.anvil, cast.anvil.bed, by=cast.ada)
    work.do(("jobs.dispatch",))
    work.do(work.waiting.pop())
    assert "Anvil did not take the file" in Print.objects.get().message

    shown = "".join(answer.content.decode() for answer in answers)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT * FROM printers_printer")
        stored = str(cursor.fetchall())
    assert caplog.records
    assert KEY not in shown + stored + caplog.text + repr(list(Printer.objects.values()))
    assert unseal(cast.anvil.sealed_key) == f"{KEY}-2"
