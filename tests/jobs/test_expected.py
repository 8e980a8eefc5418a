"""What the farm keeps of how long printers really take, and what it expects of the next prints."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs import expected, pace, services
from jobs.models import Job, JobEvent, Print, PrinterPace
from jobs.pace import RECENT, Pace, Source
from jobs.states import JobStatus, PrintStatus
from printers.drivers.base import LiveJob, PrinterStatus
from printers.models import Printer
from slicing.models import Gcode, PrinterProfile
from tests.cast import Cast, as_, attempt, gcode, job, says
from tests.work import Shop

pytestmark = pytest.mark.django_db
HOUR = 3600.0


@pytest.fixture
def hour(cast: Cast) -> Gcode:
    """It says that it takes one."""
    return takes(gcode(cast.anvil), HOUR)


def takes(made: Gcode, seconds: float) -> Gcode:
    Gcode.objects.filter(pk=made.pk).update(time_s=seconds)
    made.refresh_from_db()
    return made


def done(on: Printer, owner: Any, made: Gcode, took: float | None, *ways: PrintStatus, **fields: Any) -> Print:
    """A print that has ended, and from which the farm has learnt what there was to learn."""
    row = attempt(job(owner), on, PrintStatus.COMPLETED, gcode=made, duration_s=took, ended_at=timezone.now())
    for way in ways:
        JobEvent.objects.create(job=row.job, print=row, new=way, cause="the printer says so")
    Print.objects.filter(pk=row.pk).update(**fields)
    row = Print.objects.select_related("printer", "gcode").get(pk=row.pk)
    expected.learn(row)
    return row


def factor(printer: Printer) -> float:
    return its_pace(printer).factor


def its_pace(printer: Printer) -> Pace:
    return expected.paces({printer.pk: printer.profile_id})[printer.pk]


def test_a_printer_is_expected_to_take_what_it_took(cast: Cast, hour: Gcode) -> None:
    seen = []
    for _ in range(12):
        done(cast.anvil, cast.sam, hour, 1.25 * HOUR)
        seen.append(round(factor(cast.anvil), 3))
    assert seen[:2] == [1.0, 1.0], "few prints do not move it"
    assert seen[2:] == sorted(seen[2:])
    assert seen[-1] == pytest.approx(1.2, abs=0.03)
    kept = PrinterPace.objects.get()
    assert (kept.printer, kept.ratio, kept.prints) == (cast.anvil, pytest.approx(1.25), 12)
    assert str(kept) == "Anvil: 1.25 of what is estimated, by 12 prints"


def test_another_printer_is_moved_by_half_at_most_and_one_of_another_profile_not_at_all(
    cast: Cast, hour: Gcode
) -> None:
    far = PrinterProfile.objects.exclude(pk=cast.anvil.profile_id).first()
    assert far is not None
    for _ in range(8):
        done(cast.anvil, cast.sam, hour, 1.25 * HOUR)
    assert factor(cast.cellar) == pytest.approx(1.25**0.5)
    Printer.objects.filter(pk=cast.cellar.pk).update(profile=far)
    cast.cellar.refresh_from_db()
    assert its_pace(cast.cellar).source == Source.GCODE
    assert factor(cast.cellar) == 1.0


def test_a_pause_is_not_the_printers_slowness(cast: Cast, hour: Gcode) -> None:
    for _ in range(5):
        done(cast.anvil, cast.sam, hour, 3 * HOUR, PrintStatus.PRINTING, PrintStatus.PAUSED, PrintStatus.PRINTING)
        done(cast.anvil, cast.sam, hour, 3 * HOUR, PrintStatus.UNKNOWN)
    assert not PrinterPace.objects.exists()
    for _ in range(5):
        done(cast.anvil, cast.sam, hour, HOUR, PrintStatus.PRINTING)
    done(cast.anvil, cast.sam, hour, 3.5 * HOUR)  # it stood still for hours, and nobody saw it
    assert factor(cast.anvil) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"status": PrintStatus.FAILED},
        {"status": PrintStatus.CANCELLED},
        {"duration_s": None},
        {"duration_s": 0.0},
        {"gcode": None},
        {"printer": None},
    ],
)
def test_only_prints_that_were_printed_to_their_end_tell(cast: Cast, hour: Gcode, fields: dict[str, Any]) -> None:
    done(cast.anvil, cast.sam, hour, 1.5 * HOUR, **fields)
    assert not PrinterPace.objects.exists()


def test_what_another_profile_took_tells_nothing(cast: Cast, hour: Gcode) -> None:
    far = PrinterProfile.objects.exclude(pk=cast.anvil.profile_id).first()
    for _ in range(5):
        done(cast.anvil, cast.sam, hour, 1.5 * HOUR)
    Printer.objects.filter(pk=cast.anvil.pk).update(profile=far)
    cast.anvil.refresh_from_db()
    assert factor(cast.anvil) == 1.0
    done(cast.anvil, cast.sam, hour, 1.5 * HOUR)  # begun before its profile was changed
    assert factor(cast.anvil) == factor(cast.cellar) == 1.0


def test_the_newest_prints_count(cast: Cast, hour: Gcode) -> None:
    long_ago = timezone.now() - timedelta(days=30)
    for k in range(RECENT):
        done(cast.anvil, cast.sam, hour, 1.6 * HOUR, ended_at=long_ago + timedelta(hours=k))
    for _ in range(RECENT):
        done(cast.anvil, cast.sam, hour, 1.1 * HOUR)
    assert PrinterPace.objects.get().ratio == pytest.approx(1.1)


def test_learning_and_expecting_cost_the_same_however_long_the_history_is(cast: Cast, hour: Gcode) -> None:
    last = [done(cast.anvil, cast.sam, hour, 1.2 * HOUR) for _ in range(RECENT + 5)][-1]
    with CaptureQueriesContext(
        connection,
    ) as asked:
        expected.learn(last)
    assert len(asked) <= 6, "history, the row in a savepoint, written"
    jobs = list(Job.objects.select_related("gcode", "printer"))
    Job.objects.update(gcode=hour)
    jobs = list(Job.objects.select_related("gcode", "printer"))
    with CaptureQueriesContext(connection) as asked:
        assert len(expected.of_jobs(jobs)) == RECENT + 5
    assert len(asked) <= 3


def test_a_print_that_is_done_is_learnt_from(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the one function that writes a status; the machine says that it took a minute."""
    for room in (pace, expected):
        monkeypatch.setattr(room, "SHORTEST", 30.0)
    live = shop.printing()
    assert live.gcode is not None
    takes(live.gcode, 50.0)
    shop.machine.end()
    shop.bridge.hear()
    assert PrinterPace.objects.get().ratio == pytest.approx(60 / 50)


# -- what it is used for
def slowly(cast: Cast, made: Gcode, prints: int = 16) -> None:
    for _ in range(prints):
        done(cast.anvil, cast.sam, made, 1.5 * HOUR)


def test_a_job_takes_what_the_printer_takes_that_it_is_on_or_asks_for(cast: Cast, hour: Gcode) -> None:
    slowly(cast, hour)
    on, asks, anywhere = (
        job(cast.sam, gcode=hour),
        job(cast.sam, gcode=hour, printer=cast.anvil),
        job(cast.sam, gcode=hour),
    )
    unsliced = job(cast.sam)
    attempt(on, cast.anvil, gcode=hour)
    jobs = Job.objects.filter(pk__in=[on.pk, asks.pk, anywhere.pk, unsliced.pk]).select_related("gcode", "printer")
    found = expected.of_jobs(jobs)
    assert found.keys() == {on.pk, asks.pk, anywhere.pk}
    assert found[on.pk] == found[asks.pk]
    assert (found[on.pk].source, found[on.pk].prints) == (Source.PRINTER, 16)
    assert found[on.pk].seconds == pytest.approx(1.5**0.8 * HOUR)
    assert found[anywhere.pk].source == Source.PROFILE
    assert found[anywhere.pk].seconds == pytest.approx(1.5**0.5 * HOUR)


def test_a_print_takes_what_its_own_g_code_takes(cast: Cast, hour: Gcode) -> None:
    """It was sliced anew for the printer that it got."""
    of = job(cast.sam, gcode=hour)
    attempt(of, cast.anvil, gcode=takes(gcode(cast.anvil), 2 * HOUR))
    (found,) = expected.of_jobs(Job.objects.filter(pk=of.pk).select_related("gcode", "printer")).values()
    assert (found.seconds, found.source) == (2 * HOUR, Source.GCODE)


def test_a_printer_of_another_profile_than_it_is_sliced_for_says_nothing_yet(cast: Cast, hour: Gcode) -> None:
    far = PrinterProfile.objects.exclude(pk=cast.anvil.profile_id).first()
    Printer.objects.filter(pk=cast.cellar.pk).update(profile=far)
    slowly(cast, hour)
    of = job(cast.sam, gcode=hour, printer=Printer.objects.get(pk=cast.cellar.pk))
    (found,) = expected.of_jobs(Job.objects.filter(pk=of.pk).select_related("gcode", "printer")).values()
    assert found.source == Source.PROFILE


def test_people_are_told_about_how_long_and_what_the_g_code_says_alone(cast: Cast, hour: Gcode) -> None:
    asks = job(cast.sam, gcode=hour, printer=cast.anvil)
    path, address = f"/jobs/{asks.pk}/", f"/api/jobs/{asks.pk}/"
    before = words(as_(cast.sam), path)
    assert "Takes about 1 h 00 min Filament" in before
    assert "about 1 h 00 min" in words(as_(cast.sam), "/queue/")
    slowly(cast, hour)
    after = words(as_(cast.sam), path)
    assert "Takes, by the last 16 prints on its printer about 1 h 23 min By its G-code alone 1 h 00 min" in after
    assert "about 1 h 23 min" in words(as_(cast.sam), "/queue/")
    told = as_(cast.sam).get(address).json()
    assert (told["time_s"], told["expected_s"]) == (HOUR, pytest.approx(1.5**0.8 * HOUR, abs=0.1))
    assert as_(cast.sam).get("/api/jobs/").json()["results"][-1]["expected_s"] == told["expected_s"]
    Job.objects.filter(pk=asks.pk).update(gcode=None)
    assert as_(cast.sam).get(address).json()["expected_s"] is None


def test_staff_see_before_they_approve_about_how_long_it_takes(cast: Cast, hour: Gcode) -> None:
    slowly(cast, hour)
    job(cast.sam, JobStatus.AWAITING_APPROVAL, gcode=hour, printer=cast.anvil)
    assert "about 1 h 23 min" in words(as_(cast.ada), "/queue/")


def words(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", html.unescape(answer.content.decode())).split()).replace(" ,", ",")


def test_who_shows_printers_knows_about_how_long_their_prints_take(cast: Cast, hour: Gcode) -> None:
    slowly(cast, hour)
    assert services.occupants([cast.anvil.pk]) == {}
    live = attempt(job(cast.sam), cast.anvil)
    assert services.occupants([cast.anvil.pk])[cast.anvil.pk].expected_s is None, "not sliced yet"
    Print.objects.filter(pk=live.pk).update(gcode=hour)
    assert services.occupants([cast.anvil.pk])[cast.anvil.pk].expected_s == pytest.approx(1.5**0.8 * HOUR)


def test_until_the_machine_says_how_long_the_farm_does(cast: Cast, hour: Gcode) -> None:
    slowly(cast, hour)
    live = attempt(job(cast.sam, gcode=hour), cast.anvil, PrintStatus.STARTING, gcode=hour)
    told = job_on_anvil(cast)
    assert (told["left_s"], told["about"]) == (round(1.5**0.8 * HOUR), True)
    assert "about 1 h 23 min left" in words(as_(cast.sam), "/")
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file=live.remote_path, progress=0.0, elapsed_s=600.0))
    told = job_on_anvil(cast)
    assert (told["left_s"], told["about"]) == (round(1.5**0.8 * HOUR) - 600, True)
    says(
        cast.anvil,
        PrinterStatus.PRINTING,
        job=LiveJob(file=live.remote_path, progress=0.5, elapsed_s=9000.0, left_s=60.0),
    )
    told = job_on_anvil(cast)
    assert told["left_s"] == 60.0, "its own word counts"
    assert "about" not in told


def test_a_print_that_takes_longer_than_ever_is_about_to_end(cast: Cast, hour: Gcode) -> None:
    live = attempt(job(cast.sam, gcode=hour), cast.anvil, gcode=hour)
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file=live.remote_path, progress=0.9, elapsed_s=3 * HOUR))
    assert job_on_anvil(cast)["left_s"] == 0


def test_of_what_others_started_at_the_machine_the_farm_expects_nothing(cast: Cast, hour: Gcode) -> None:
    attempt(job(cast.sam, gcode=hour), cast.anvil, gcode=hour)
    says(cast.anvil, PrinterStatus.PRINTING, job=LiveJob(file="elsewhere.gcode", progress=0.1))
    assert job_on_anvil(cast)["left_s"] is None


def job_on_anvil(cast: Cast) -> Any:
    return as_(cast.sam).get(f"/api/printers/{cast.anvil.pk}/state/").json()["job"]
