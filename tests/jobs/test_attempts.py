from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from farm.errors import Unavailable
from jobs import attempts, services
from jobs.models import Job, Print
from jobs.states import PRINT_TERMINAL, PrintStatus
from printers import commands
from printers import services as printers
from printers.drivers.base import (
    Busy,
    DriverError,
    Garbled,
    Outcome,
    PrinterStatus,
    Refused,
    Unauthorised,
    Unclear,
)
from printers.models import Printer
from tests.cast import attempt as some_attempt
from tests.cast import job
from tests.machines import away
from tests.work import Shop, committed, expire, workers_die

pytestmark = pytest.mark.django_db


def now(row: Any) -> str:
    row.refresh_from_db()
    return str(row.status)


def ways(of: Job) -> list[str]:
    """Every status of a job and its prints, as its owner can read it."""
    return [event.new for event in of.events.all()]


def outcomes(shop: Shop) -> list[str]:
    return [str(start.status) for start in shop.starts()]


# -- from upload to history
def test_a_print_goes_from_the_upload_to_the_history(shop: Shop) -> None:
    live = shop.claimed(name="Zahnrad für Ümit.stl")
    assert shop.work.names() == ["jobs.send"]

    shop.work.do_all()  # uploaded and verified
    assert now(live) == "starting"
    assert live.remote_path == f"farm/{live.remote_name}"  # as the printer calls it
    assert shop.machine.files == {live.remote_path: b"G28\n"}
    assert shop.machine.starts == []  # nothing but a command of the bridge starts it
    assert (live.bed_clear.n, shop.bed_is_clear()) == (1, False)  # type: ignore[union-attr]

    shop.bridge.run_lane()
    assert shop.machine.starts == [live.remote_path]
    assert outcomes(shop) == ["done"]
    assert now(live) == "starting"  # an answer to the request is not evidence

    shop.bridge.hear()
    assert now(live) == "printing"
    assert live.started_at is not None
    shop.machine.end()
    shop.bridge.hear()
    shop.work.do_all()
    assert (now(live), now(live.job)) == ("completed", "completed")
    assert (live.progress, live.filament_mm, live.duration_s) == (1.0, 1500.0, 60.0)
    assert live.ended_at is not None
    assert live.file_deleted
    assert shop.machine.files == {}
    assert not shop.bed_is_clear()
    assert ways(live.job) == ["preparing", "uploading", "active", "starting", "printing", "completed", "completed"]


def test_the_name_on_the_printer_is_readable_harmless_and_never_used_twice(shop: Shop) -> None:
    live = shop.claimed(name="../../Zahnrad für <b>Ümit</b>.stl")
    names = {attempts.remote_name(live) for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"b-[0-9a-f]{8}-[0-9a-f]{8}\.gcode", name) for name in names)
    live.job.name = "Zahnrad für Ümit.stl"
    assert attempts.remote_name(live).startswith("Zahnrad-fur-Umit-")
    live.job.name = "字.stl"
    assert attempts.remote_name(live).startswith("print-")


def test_pausing_at_the_machine_is_followed(shop: Shop) -> None:
    live = shop.printing()
    for status, word in ((PrinterStatus.PAUSED, "paused"), (PrinterStatus.PRINTING, "printing")):
        shop.machine.status = status
        shop.bridge.hear()
        assert now(live) == word


@pytest.mark.parametrize(
    ("outcome", "said", "told"),
    [
        (Outcome.FAILED, "Thermal runaway", f"Failed on Anvil: Thermal runaway. {attempts.ASK_FIRST}"),
        (Outcome.FAILED, "", f"Failed on Anvil: it does not say why. {attempts.ASK_FIRST}"),
        (Outcome.CANCELLED, "By the door switch!", "Cancelled at Anvil. By the door switch!"),
        (Outcome.CANCELLED, "", "Cancelled at Anvil."),
    ],
)
def test_its_owner_is_told_how_it_ended_and_what_to_do(shop: Shop, outcome: Outcome, said: str, told: str) -> None:
    live = shop.printing()
    shop.machine.end(outcome, said)
    shop.bridge.hear()
    assert (now(live), live.message, now(live.job)) == (outcome, told, outcome)
    assert live.job.message == told
    assert not shop.bed_is_clear()


def test_a_print_shorter_than_a_look_is_completed(shop: Shop) -> None:
    live = shop.starting()
    shop.bridge.run_lane()
    shop.machine.end()
    shop.bridge.hear()
    assert now(live) == "completed"
    assert live.started_at is not None


def ends_without_figures(shop: Shop, outcome: Outcome) -> None:
    """As OctoPrint says it: how long it took, and nothing of filament."""
    shop.machine.end(outcome)
    shop.machine.records[-1] = replace(shop.machine.records[-1], filament_mm=None, duration_s=975.0)
    shop.bridge.hear()


def test_a_printer_that_does_not_say_how_much_it_took_leaves_what_the_gcode_says(shop: Shop) -> None:
    live = shop.printing()
    ends_without_figures(shop, Outcome.COMPLETED)
    assert now(live) == "completed"
    assert (live.filament_mm, live.filament_estimated) == (1500.0, True)


def test_of_a_print_that_ended_early_the_share_of_its_time_is_taken(shop: Shop) -> None:
    live = shop.printing()
    ends_without_figures(shop, Outcome.FAILED)
    assert now(live) == "failed"
    assert (live.filament_mm, live.duration_s, live.filament_estimated) == (375.0, 975.0, True)  # of 3,900 s


def test_what_the_printer_measured_is_no_estimate(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.end(Outcome.FAILED)
    shop.bridge.hear()
    assert now(live) == "failed"
    assert (live.filament_mm, live.filament_estimated) == (1500.0, False)


def test_what_never_started_took_nothing(shop: Shop) -> None:
    live = shop.claimed()
    services.cancel(live.job, shop.cast.sam)
    assert now(live) == "cancelled"
    assert (live.filament_mm, live.duration_s, live.filament_estimated) == (None, None, False)


@pytest.mark.parametrize(
    ("takes", "printed", "used"), [(100, None, 8), (100, 25, 2), (100, 400, 8), (100, -1, 0), (0, 10, 0)]
)
def test_filament_flows_evenly_in_an_estimate(takes: float, printed: float | None, used: float) -> None:
    assert services.filament_by_then(8, takes, printed) == used


def test_an_idle_printer_without_a_print_wakes_the_queue(shop: Shop) -> None:
    shop.bridge.hear()
    assert shop.work.names() == ["jobs.dispatch"]


# -- uploads that fail
def meanwhile(shop: Shop, what: Callable[[], Any], at: str = "upload") -> None:
    """``what`` happens in the world while the file is on its way."""

    def happen() -> None:
        with committed():
            what()

    shop.machine.meanwhile[at] = happen


def unprinted(shop: Shop, live: Print, message: str) -> None:
    """It ended, nothing was started, and its copy waits again."""
    assert (now(live), live.message, live.spent) == ("failed", message, False)
    assert now(live.job) == "ready"
    assert message in [event.message for event in live.job.events.all()]
    assert not [path for path in shop.machine.starts if path.startswith("farm/")]
    assert shop.starts() == []


@pytest.mark.parametrize(
    "error",
    [
        away(),
        Refused("The disk of the printer is full."),
        Refused("What arrived is 3 bytes; 4 were sent."),
        Refused("What arrived has another hash than what was sent."),
        Unauthorised("The API key is wrong."),
        Garbled("It answered in riddles."),
    ],
    ids=lambda error: error.message,
)
def test_an_upload_that_fails_is_told_and_tried_again(shop: Shop, error: DriverError) -> None:
    live = shop.claimed()
    shop.machine.faults["upload"] = error
    shop.work.do_all()
    unprinted(shop, live, f"Anvil did not take the file: {error.message}")
    assert shop.bed_is_clear()
    assert shop.machine.open_drivers == 0
    del shop.machine.faults["upload"]
    Print.objects.update(ended_at=None)  # the printer is left alone for a moment
    shop.work.sweep()
    shop.go_on()
    assert now(live.job) == "active"
    assert shop.machine.starts == [live.job.prints.get(status="printing").remote_path]


def test_an_upload_without_an_answer_leaves_no_file(shop: Shop) -> None:
    live = shop.claimed()
    shop.machine.lost_answers["upload"] = Unclear("No answer came.")
    shop.work.do_all()
    unprinted(shop, live, "Anvil did not take the file: No answer came.")
    assert shop.machine.asked("delete_file")[-1] == (live.remote_name,)


def test_a_file_that_cannot_be_read_any_more_ends_in_a_sentence(shop: Shop) -> None:
    live = shop.claimed()
    live.job.gcode.file.delete()  # type: ignore[union-attr]
    shop.work.do_all()
    unprinted(shop, live, "The farm stumbled over it. Ask the people who run the lab: their log has the details.")
    assert shop.bed_is_clear()


def test_a_credential_that_no_key_opens_ends_in_a_sentence(shop: Shop) -> None:
    live = shop.claimed()
    shop.machine.faults["open"] = ValueError("no key opens this")
    shop.work.do_all()
    unprinted(shop, live, "The farm stumbled over it. Ask the people who run the lab: their log has the details.")


# -- what people do while the file is on its way
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enabled": False}, "Anvil was switched off."),
        ({"maintenance": "new belt"}, "Anvil is in maintenance (new belt)."),
    ],
)
def test_a_printer_that_was_taken_out_meanwhile_starts_nothing(
    shop: Shop, change: dict[str, Any], message: str
) -> None:
    live = shop.claimed()
    meanwhile(shop, lambda: Printer.objects.update(**change))
    shop.work.do_all()
    unprinted(shop, live, message)
    assert shop.machine.files == {}
    assert shop.bed_is_clear()


def test_a_job_that_was_taken_back_meanwhile_is_not_started(shop: Shop) -> None:
    live = shop.claimed()
    meanwhile(shop, lambda: services.cancel(live.job, shop.cast.sam))
    shop.work.do_all()
    assert (now(live), now(live.job)) == ("cancelled", "cancelled")
    assert shop.starts() == []
    assert shop.machine.files == {}
    assert shop.bed_is_clear()


def test_a_wish_that_only_reached_the_database_is_found_before_the_start(shop: Shop) -> None:
    live = shop.claimed()
    meanwhile(shop, lambda: Job.objects.update(cancel_requested=True))
    shop.work.do_all()
    assert (now(live), live.message, now(live.job)) == ("cancelled", "Cancelled.", "cancelled")
    assert shop.starts() == []


@pytest.mark.parametrize("what", ["a print at the machine", "an emergency stop"])
def test_a_bed_that_was_soiled_meanwhile_is_neither_used_nor_called_clear(shop: Shop, what: str) -> None:
    live = shop.claimed()

    def happen() -> None:
        if what == "an emergency stop":
            commands.request_command(shop.anvil, "emergency_stop", {}, by=shop.cast.ada)
        else:
            shop.machine.begin("gift.gcode")
            shop.bridge.hear()

    meanwhile(shop, happen)
    shop.work.do_all()
    unprinted(shop, live, "The bed of Anvil is no longer clear.")
    assert not shop.bed_is_clear()


def test_cancelling_after_the_bed_was_soiled_does_not_call_it_clear(shop: Shop) -> None:
    live = shop.claimed()
    with committed():
        printers.soil_bed(shop.anvil.pk, "a print was started at the machine")
        services.cancel(live.job, shop.cast.sam)
    assert now(live) == "cancelled"
    assert not shop.bed_is_clear()


# -- the start
def test_a_start_that_the_printer_refuses_gives_bed_and_copy_back_after_its_file_is_gone(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Refused("The door is open.")
    shop.bridge.run_lane()
    assert outcomes(shop) == ["refused"]
    assert (now(live), live.message) == ("starting", "Not started: The door is open.")
    assert not shop.bed_is_clear()  # not yet: its file is still there

    shop.work.do_all()
    assert (now(live), live.message, live.spent, live.file_deleted) == (
        "failed",
        "Not started: The door is open.",
        False,
        True,
    )
    assert shop.machine.files == {}
    assert shop.bed_is_clear()
    assert now(live.job) == "ready"


def test_a_start_that_nobody_sent_in_time_is_never_sent(shop: Shop) -> None:
    live = shop.starting()
    expire(shop.anvil)
    shop.go_on()
    assert outcomes(shop) == ["expired"]
    assert (now(live), now(live.job)) == ("failed", "ready")
    assert live.message == "Not started: Not sent in time: nothing listens to this printer now."
    assert shop.machine.asked("start") == []
    assert shop.bed_is_clear()


def test_a_start_without_an_answer_that_began_is_printed(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.lost_answers["start"] = Unclear("No answer came.")
    shop.go_on()
    assert outcomes(shop) == ["done"]  # its state shows it
    assert now(live) == "printing"
    assert shop.machine.starts == [live.remote_path]


def test_a_start_without_an_answer_is_unclear_until_its_file_is_gone(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")
    shop.machine.faults["delete_file"] = away()
    shop.go_on()
    assert outcomes(shop) == ["unclear"]
    shop.work.sweep()
    assert now(live) == "unknown"
    assert live.message == "It is not clear whether Anvil started: it is being found out."
    assert not shop.bed_is_clear()

    del shop.machine.faults["delete_file"]
    shop.work.sweep()
    assert (now(live), live.message, live.spent, live.file_deleted) == ("failed", "It was not started.", False, True)
    assert (now(live.job), shop.bed_is_clear()) == ("ready", True)
    assert shop.machine.starts == []


@pytest.mark.parametrize(
    "doubt",
    [
        {"faults": {"find_file": away()}},
        {"faults": {"find_ended": away()}},
        {"faults": {"read_state": away()}},
        {"faults": {"delete_file": Busy("That file is being printed.")}},
    ],
    ids=lambda doubt: next(iter(doubt["faults"])),
)
def test_as_long_as_anything_is_in_doubt_it_stays_unclear(shop: Shop, doubt: dict[str, dict[str, Any]]) -> None:
    live = shop.starting()
    shop.machine.faults |= {"start": Unclear("No answer came."), **doubt["faults"]}
    shop.go_on()
    shop.work.sweep()
    assert now(live) == "unknown"
    assert not shop.bed_is_clear()
    assert live.job.prints.count() == 1


def test_a_file_that_is_still_there_after_it_was_deleted_keeps_it_unclear(shop: Shop) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")

    def put_back() -> None:
        shop.machine.files[live.remote_path] = b"G28\n"

    live.refresh_from_db()
    shop.machine.meanwhile["find_file"] = put_back
    shop.go_on()
    assert now(live) == "unknown"
    assert not shop.bed_is_clear()


@pytest.mark.parametrize("at", ["find_file", "delete_file"])
def test_a_start_that_arrives_late_is_found_out_while_it_is_taken_back(shop: Shop, at: str) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")
    shop.machine.meanwhile[at] = lambda: shop.machine.begin(live.remote_path)
    shop.go_on()
    shop.work.sweep()
    assert now(live) == "printing"
    assert not shop.bed_is_clear()


@pytest.mark.parametrize("outcome", Outcome)
def test_the_printers_records_end_what_was_unclear(shop: Shop, outcome: Outcome) -> None:
    live = shop.starting()
    shop.machine.faults["start"] = Unclear("No answer came.")
    shop.bridge.run_lane()
    shop.machine.begin(live.remote_path)
    shop.machine.end(outcome)
    shop.work.do_all()
    assert now(live) == outcome
    assert live.spent
    assert not shop.bed_is_clear()


# -- prints that get lost
def test_a_printer_that_came_back_without_a_trace_of_it_lost_it(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.forget()
    shop.bridge.hear()
    assert now(live) == "printing"  # its records are asked first
    shop.work.do_all()
    assert (now(live), now(live.job)) == ("failed", "failed")
    assert live.job.message == f"Anvil lost the print: it stopped or restarted in its middle. {attempts.ASK_FIRST}"
    assert live.spent
    assert not shop.bed_is_clear()


def test_a_print_that_ended_while_nobody_listened_is_found_in_the_records(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.end()
    shop.machine.faults["find_ended"] = away()
    ended, shop.machine.records = shop.machine.records, []  # its stream does not tell
    shop.bridge.hear()
    shop.work.do_all()
    assert now(live) == "printing"  # it is asked again later
    shop.machine.records = ended
    del shop.machine.faults["find_ended"]
    shop.work.sweep()
    assert now(live) == "completed"


def test_what_its_printer_showed_once_is_never_judged_not_started(shop: Shop) -> None:
    """So short a print that nobody noted it in time; the printer writes its record a moment later."""
    live = shop.starting()
    shop.bridge.run_lane()
    assert outcomes(shop) == ["done"]
    shop.machine.forget()
    shop.work.sweep()
    assert (now(live), live.spent) == ("failed", True)
    assert live.message.startswith("Anvil lost the print")
    assert not shop.bed_is_clear()


@pytest.mark.parametrize("task", ["jobs.reconcile", "jobs.clean_up"])
def test_a_credential_that_no_key_opens_is_waited_for(shop: Shop, task: str) -> None:
    """Until somebody enters it again, nothing can be found out or deleted."""
    live = shop.printing()
    if task == "jobs.clean_up":
        services.advance(live, PrintStatus.COMPLETED)
    before = now(live)
    shop.machine.faults["open"] = Unavailable("Enter the API key again.")
    shop.work.do((task, str(live.pk)))
    assert (now(live), live.file_deleted) == (before, False)


def test_somebody_elses_print_is_not_taken_for_ours(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.begin("gift.gcode")
    shop.bridge.hear()
    shop.work.do_all()
    assert now(live) == "failed"
    assert shop.machine.asked("cancel") == []


def test_asking_about_what_is_being_printed_changes_nothing(shop: Shop) -> None:
    live = shop.printing()
    shop.work.do(("jobs.reconcile", str(live.pk)))
    assert now(live) == "printing"
    assert shop.machine.asked("delete_file") == []


def test_a_printer_that_is_busy_with_nothing_is_not_taken_to_have_lost_it(shop: Shop) -> None:
    live = shop.printing()
    shop.machine.status, shop.machine.job = PrinterStatus.CONNECTING, None
    shop.work.do(("jobs.reconcile", str(live.pk)))
    assert now(live) == "printing"


# -- tasks that come twice
@pytest.mark.parametrize("task", ["jobs.send", "jobs.dispatch"])
def test_a_redelivered_task_does_nothing_the_second_time(shop: Shop, task: str) -> None:
    for reach in (shop.starting, shop.go_on):
        reach()
        live = Print.objects.get()
        before = now(live)
        shop.work.redeliver(task)
        assert (now(live), len(shop.machine.asked("upload"))) == (before, 1)
    shop.machine.end()
    shop.bridge.hear()
    shop.work.redeliver(task)
    assert now(live) == "completed"
    assert len(shop.starts()) == len(shop.machine.starts) == 1


def test_two_workers_at_once_upload_once(shop: Shop) -> None:
    live = shop.claimed()
    meanwhile(shop, lambda: shop.work.do(("jobs.send", str(live.pk))))
    shop.work.do_all()
    assert len(shop.machine.asked("upload")) == 1
    assert len(shop.starts()) == 1


def test_a_worker_that_died_is_followed_by_another_with_another_name(shop: Shop) -> None:
    live = shop.claimed()
    shop.machine.faults["upload"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        shop.work.do_all()
    first = Print.objects.get().remote_name
    shop.machine.files[first] = b"G"  # a part of it arrived
    del shop.machine.faults["upload"]
    shop.work.sweep()
    assert now(live) == "uploading"  # perhaps it only thinks
    workers_die()
    shop.work.sweep()
    assert now(live) == "starting"
    assert live.remote_name != first
    assert list(shop.machine.files) == [live.remote_path]


@pytest.mark.parametrize("error", [None, Unclear("No answer came.")], ids=["it comes through", "it fails"])
def test_a_worker_that_was_taken_for_dead_disturbs_its_successor_in_nothing(
    shop: Shop, error: DriverError | None
) -> None:
    live = shop.claimed()

    def another() -> None:
        shop.machine.meanwhile.clear()
        workers_die()
        shop.work.do(("jobs.send", str(live.pk)))
        shop.machine.faults.update({"upload": error} if error else {})

    meanwhile(shop, another)
    shop.work.do_all()
    assert now(live) == "starting"
    assert list(shop.machine.files) == [live.remote_path]
    assert len(shop.starts()) == 1


def test_what_stops_every_worker_is_given_up(shop: Shop) -> None:
    live = shop.claimed()
    shop.machine.faults["upload"] = KeyboardInterrupt()
    for _ in range(attempts.MOST_WORKERS):
        with pytest.raises(KeyboardInterrupt):
            shop.work.do(("jobs.send", str(live.pk)))
        workers_die()
    shop.work.do(("jobs.send", str(live.pk)))
    unprinted(shop, live, f"Bringing it to the printer stopped every time in the middle. {attempts.ASK_FIRST}")


def test_tasks_for_what_is_gone_do_nothing(shop: Shop) -> None:
    for task in ("jobs.send", "jobs.reconcile", "jobs.clean_up"):
        shop.work.do((task, str(uuid4())))
    assert shop.work.waiting == []


def test_a_printer_that_was_removed_from_the_database_ends_its_print(shop: Shop) -> None:
    live = shop.claimed()
    Print.objects.update(printer=None)
    shop.work.do_all()
    assert (now(live), live.message) == ("failed", "The printer was removed.")


# -- progress
def test_the_owner_sees_how_far_the_upload_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_SAY_EVERY", 0)
    live = shop.claimed()
    seen: list[float] = []
    announce = services.announce

    def note(job: Job) -> None:
        seen.append(Print.objects.get().progress)
        announce(job)

    monkeypatch.setattr(services, "announce", note)
    shop.work.do_all()
    assert 1.0 in seen  # all was sent
    assert (now(live), live.progress) == ("starting", 0.0)  # and nothing is printed yet


# -- tidying up
@pytest.mark.parametrize("status", PRINT_TERMINAL)
def test_what_a_printer_did_not_delete_is_deleted_later(shop: Shop, status: PrintStatus) -> None:
    live = shop.printing()
    shop.machine.faults["delete_file"] = away()
    shop.machine.end(Outcome(status))
    shop.bridge.hear()
    shop.work.do_all()
    assert (now(live), live.file_deleted) == (status, False)
    del shop.machine.faults["delete_file"]
    shop.work.do(("jobs.housekeeping",))
    shop.work.do_all()
    live.refresh_from_db()
    assert live.file_deleted
    assert shop.machine.files == {}


def test_the_file_of_a_live_print_is_never_cleaned_up(shop: Shop) -> None:
    for reach in (shop.starting, shop.go_on):
        reach()
        live = Print.objects.get()
        shop.work.do(("jobs.clean_up", str(live.pk)))
        assert list(shop.machine.files) == [live.remote_path]


def test_a_file_is_deleted_once(shop: Shop) -> None:
    ended = some_attempt(job(shop.cast.sam), shop.anvil, PrintStatus.COMPLETED)
    for _ in range(2):
        shop.work.do(("jobs.clean_up", str(ended.pk)))
    assert shop.machine.asked("delete_file") == [(ended.remote_path,)]
    assert shop.machine.open_drivers == 0
