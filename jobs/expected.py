"""What prints are expected to take, by what printers really took (see jobs.pace).

The G-code's own estimate stays as it is; what is shown beside it, or in its place, is "about" so long.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Exists, OuterRef

from jobs.models import Job, JobEvent, Print, PrinterPace
from jobs.pace import RECENT, SHORTEST, Evidence, Pace, Source, measured, pace
from jobs.states import PRINT_LIVE, PrintStatus
from printers.models import Printer

#: a print that was one of these took longer than it prints, or nobody knows how long
_DISTURBED = (PrintStatus.PAUSED, PrintStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Expected:
    """``seconds`` that a print takes, begin to end; ``source`` and ``prints`` say by whose experience."""

    seconds: float
    source: Source
    prints: int


# -- learning
def learn(attempt: Print) -> None:
    """A print has ended: keep what its printer takes by now. One query and one row, however long its history is."""
    if attempt.status != PrintStatus.COMPLETED or attempt.printer is None or attempt.gcode is None:
        return
    profile_id = attempt.printer.profile_id
    if attempt.gcode.profile_id != profile_id:
        return
    evidence = measured(_took(attempt.printer, profile_id))
    if evidence.prints:
        PrinterPace.objects.update_or_create(
            printer=attempt.printer,
            defaults={"profile_id": profile_id, "ratio": evidence.ratio, "prints": evidence.prints},
        )


def _took(printer: Printer, profile_id: UUID) -> list[tuple[float, float]]:
    """(estimated, real) s of its newest undisturbed prints of that profile's G-code."""
    disturbed = JobEvent.objects.filter(print=OuterRef("pk"), new__in=_DISTURBED)
    rows = (
        Print.objects.filter(
            ~Exists(disturbed),
            printer=printer,
            status=PrintStatus.COMPLETED,
            gcode__profile=profile_id,
            gcode__time_s__gte=SHORTEST,
            duration_s__gte=1,
        )
        .order_by("-ended_at")
        .values_list("gcode__time_s", "duration_s")
    )
    return [(estimated, real) for estimated, real in rows[:RECENT] if real is not None]


# -- expecting
def paces(profiles: Mapping[UUID, UUID]) -> dict[UUID, Pace]:
    """Of printers, whose profiles are given. One query."""
    known = _known(set(profiles.values()))
    return {
        printer_id: pace(
            known[profile_id].get(printer_id, Evidence()),
            [evidence for pk, evidence in known[profile_id].items() if pk != printer_id],
        )
        for printer_id, profile_id in profiles.items()
    }


def usual_paces(profile_ids: Collection[UUID]) -> dict[UUID, Pace]:
    """Of some printer of each profile, whichever it will be. One query."""
    known = _known(profile_ids)
    return {pk: pace(Evidence(), list(known[pk].values())) for pk in profile_ids}


def _known(profile_ids: Collection[UUID]) -> defaultdict[UUID, dict[UUID, Evidence]]:
    """profile -> printer -> what it took. A printer that has another profile now tells nothing of either."""
    found: defaultdict[UUID, dict[UUID, Evidence]] = defaultdict(dict)
    rows = PrinterPace.objects.filter(profile__in=profile_ids).values_list(
        "profile_id", "printer_id", "printer__profile_id", "ratio", "prints"
    )
    for profile_id, printer_id, now, ratio, prints in rows:
        if profile_id == now:
            found[profile_id][printer_id] = Evidence(ratio, prints)
    return found


def of_live(printer_ids: Collection[UUID]) -> dict[UUID, float]:
    """s that the live print on each of these printers takes, begin to end. Two queries."""
    rows = Print.objects.filter(printer__in=printer_ids, status__in=PRINT_LIVE, gcode__isnull=False)
    live = list(rows.values_list("printer_id", "printer__profile_id", "gcode__time_s"))
    known = paces({printer_id: profile_id for printer_id, profile_id, _ in live if printer_id and profile_id})
    return {pk: time_s * known[pk].factor for pk, _, time_s in live if pk in known and time_s is not None}


def of_jobs(jobs: Iterable[Job]) -> dict[UUID, Expected]:
    """Of one copy of each that is sliced (select its G-code and its printer with it): on the printer that it is on, or
    that it asks for, or on any of the profile that it was sliced for; what is sliced for another profile than its
    printer's will be sliced anew. Three queries."""
    rows = [job for job in jobs if job.gcode is not None]
    live = Print.objects.filter(job__in=rows, status__in=PRINT_LIVE, gcode__isnull=False, printer__isnull=False)
    at = {row.job_id: (row.gcode, row.printer) for row in live.select_related("gcode", "printer")}
    places = {job.pk: at.get(job.pk, (job.gcode, job.printer)) for job in rows}
    known = paces({printer.pk: printer.profile_id for _, printer in places.values() if printer})
    usual = usual_paces({gcode.profile_id for gcode, _ in places.values() if gcode})
    found = {}
    for pk, (gcode, printer) in places.items():
        if gcode is not None:
            here = printer is not None and printer.profile_id == gcode.profile_id
            its = known[printer.pk] if printer and here else usual[gcode.profile_id]
            found[pk] = Expected(gcode.time_s * its.factor, its.source, its.prints)
    return found
