"""The queue as one person may see it: own jobs and those on printers they operate by name, others without.

Who is before whom is read from a few columns of every open job; whole rows only of what is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now

from farm.models import User
from jobs import access, expected
from jobs.dispatch import needs_of
from jobs.looks import job_look, print_look
from jobs.matching import Offer, misfit
from jobs.models import Job, Print
from jobs.states import JOB_TERMINAL, PRINT_LIVE, JobStatus, PrintStatus
from printers import access as printer_access
from printers.models import Printer, Role
from printers.views import state_views

_WAITING = (JobStatus.PREPARING, JobStatus.READY, JobStatus.ACTIVE)
#: rows a page: of what waits, and at most of what prints and of what awaits approval
ROWS = 50
#: on the page of one printer: rows, and how many jobs that take any printer are looked at
SHOWN_HERE, LOOKED_AT = 12, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One job in the queue. ``named``: this person may know what it is."""

    pk: UUID
    n: int
    owner_id: UUID
    printer_id: UUID | None
    named: bool


def queue_of(
    user: User, *, number: Any = 1, mine: bool = False, changed: Collection[UUID] | None = None
) -> dict[str, Any]:
    """``approval``, ``printing`` and ``waiting`` (page ``number``, see ``page``), each in order, with how many more
    there are. A row's ``job`` is None when it must have no name. With ``changed``, named rows of other jobs are only a
    key: who asks has them."""
    named = _named(user)
    places = places_of(user, named)
    own = [place for place in places if place.owner_id == user.pk]
    page = Paginator(own if mine else places, ROWS).get_page(number)
    # one that came to wait for a yes since the places were read stands there until the list is asked for again
    asked = named - {place.pk for place in places}
    approval = Job.objects.filter(status=JobStatus.AWAITING_APPROVAL, pk__in=asked).order_by("created_at", "pk")
    return {
        "page": page,
        "total": len(places),
        "own": len(own),
        "waiting": _waiting(user, page, changed),
        **_first("approval", _to_approve(user, list(_whole(approval[: ROWS + 1])), changed)),
        **_printing(user, named, mine, changed),
    }


def _named(user: User) -> set[UUID]:
    return set(access.queue(user).exclude(status__in=JOB_TERMINAL).values_list("pk", flat=True))


def places_of(user: User, named: Collection[UUID]) -> list[Place]:
    """Everything that waits for a printer which this person sees, first come first."""
    seen = set(printer_access.visible(user).values_list("pk", flat=True))
    waiting = (
        Job.objects.filter(status__in=_WAITING, cancel_requested=False)
        .annotate(spent=Count("prints", filter=Q(prints__spent=True)))
        .filter(copies__gt=F("spent"))
        .order_by("created_at", "pk")
    )
    rows = list(waiting.values_list("pk", "owner_id", "printer_id", "model_id"))
    anywhere = any(printer_id is None and pk not in named for pk, _, printer_id, _ in rows)
    near = _Near(seen) if anywhere else None
    shown = [
        row for row in rows if row[0] in named or (row[2] in seen if row[2] else near is not None and near.comes(*row))
    ]
    return [
        Place(pk=pk, n=n, owner_id=owner_id, printer_id=printer_id, named=pk in named)
        for n, (pk, owner_id, printer_id, _) in enumerate(shown, start=1)
    ]


class _Near:
    """Whose jobs for any printer can come to one of these: models where their owner may print, G-code where they
    operate."""

    def __init__(self, seen: Collection[UUID]) -> None:
        self._prints, self._operates = (
            set(printer_access.people_on(seen, role).values_list("pk", flat=True))
            for role in (Role.SUBMIT, Role.OPERATE)
        )

    def comes(self, pk: UUID, owner_id: UUID, printer_id: UUID | None, model_id: UUID | None) -> bool:
        return owner_id in (self._prints if model_id else self._operates)


def place_in_queue(user: User, job: Job) -> tuple[int, int] | None:
    """(place, how many wait), as this person sees the queue; None: it does not wait there."""
    if job.status not in _WAITING:
        return None
    places = places_of(user, _named(user))
    found = next((place for place in places if place.pk == job.pk), None)
    return (found.n, len(places)) if found else None


def waiting_for(user: User, printer: Printer) -> tuple[list[dict[str, Any]], int]:
    """What may come to this printer, first come first: what asks for it, and what takes any printer and could be
    printed on this one. And how many more than are shown."""
    places = places_of(user, _named(user))
    anywhere = [place.pk for place in places if place.printer_id is None]
    could = _possible_on(printer, anywhere[:LOOKED_AT])
    here = [place for place in places if place.printer_id == printer.pk or place.pk in could]
    return _waiting(user, here[:SHOWN_HERE], None), max(0, len(here) - SHOWN_HERE)


def _possible_on(printer: Printer, waiting: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that it could print, whatever it does now."""
    profile = printer.profile
    offer = Offer(
        printer_id=printer.pk, name=printer.name, profile=(profile.pk, profile.revision), size_mm=profile.machine.size
    )
    jobs = Job.objects.filter(pk__in=waiting).select_related("model", "gcode", "material", "quality")
    needs = needs_of(list(jobs.prefetch_related("prints__gcode")))
    return {need.job_id for need in needs if misfit(need, offer) is None}


def _whole(jobs: QuerySet[Job]) -> QuerySet[Job]:
    return jobs.select_related("owner", "printer", "gcode", "model")


def _waiting(
    user: User, places: Iterable[Place] | Page[Place], changed: Collection[UUID] | None
) -> list[dict[str, Any]]:
    places = list(places)
    asked = [place.pk for place in places if changed is None or not place.named or place.pk in changed]
    jobs = {row.pk: row for row in _whole(Job.objects.filter(pk__in=asked)).prefetch_related("prints")}
    takes = expected.of_jobs(jobs.values())
    rows = []
    for place in places:
        job = jobs.get(place.pk)
        known = {"key": f"w-{place.pk}" if place.named else f"n-{place.n}", "job_id": place.pk, "place": place.n}
        rows.append({**known, "same": True} if job is None else {**known, **_row(job, place.named, user, takes)})
    return rows


def _row(job: Job, named: bool, user: User, takes: Mapping[UUID, expected.Expected]) -> dict[str, Any]:
    spent = sum(attempt.spent for attempt in job.prints.all())
    shown = JobStatus.READY if job.status == JobStatus.ACTIVE else job.status
    return {
        "job": job if named else None,
        "own": job.owner_id == user.pk,
        "deeds": named and (user.is_staff or job.owner_id == user.pk),
        "look": job_look(job, shown),
        "plain": shown == JobStatus.READY and not job.hold,
        "reason": _reason(job, spent) if named else "",
        "slicing": job.slice_progress if named and job.status == JobStatus.PREPARING and job.slice_attempts else None,
        "copies": max(0, job.copies - spent),
        "printer_id": job.printer_id,
        "printer": job.printer,
        "time_s": takes[job.pk].seconds if job.pk in takes else None,
    }


def _reason(job: Job, spent: int) -> str:
    """Why it waits: one sentence."""
    if job.status == JobStatus.PREPARING:
        return "Being cut into layers." if job.slice_attempts else "Waits for a slicer that is free."
    if job.status == JobStatus.ACTIVE:
        return f"{spent} of its {job.copies} copies have had their turn."
    return job.message or "The farm looks for a printer."


def _to_approve(user: User, jobs: list[Job], changed: Collection[UUID] | None) -> list[dict[str, Any]]:
    asked = [job for job in jobs if changed is None or job.pk in changed]
    takes = expected.of_jobs(asked)
    return [
        {"key": f"a-{job.pk}", "job_id": job.pk, **(_row(job, True, user, takes) if job in asked else {"same": True})}
        for job in jobs
    ]


def _first(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: rows[:ROWS], f"{name}_more": len(rows) > ROWS}


def _printing(user: User, named: Collection[UUID], mine: bool, changed: Collection[UUID] | None) -> dict[str, Any]:
    """Own prints first, then the oldest."""
    seen = set(printer_access.visible(user).values_list("pk", flat=True))
    live = Print.objects.filter(status__in=PRINT_LIVE, **({"job__owner": user} if mine else {})).order_by("created_at")
    light = live.values_list("pk", "job_id", "printer_id", "job__owner_id")
    shown = [row for row in light if row[2] in seen or row[1] in named]
    shown.sort(key=lambda row: row[3] != user.pk)
    asked = [row[0] for row in shown[:ROWS] if changed is None or row[1] not in named or row[1] in changed]
    whole = Print.objects.filter(pk__in=asked).select_related("job__owner", "job__gcode", "job__model")
    prints = {row.pk: row for row in whole}
    states = state_views(user, printer_access.visible(user).filter(pk__in=[row.printer_id for row in prints.values()]))
    rows = []
    for pk, job_id, printer_id, _ in shown[:ROWS]:
        known = {"key": f"p-{pk}" if job_id in named else f"o-{printer_id}", "job_id": job_id}
        row = prints.get(pk)
        rows.append({**known, **_print_row(row, user, named, states)} if row else {**known, "same": True})
    return {"printing": rows, "printing_more": len(shown) - len(rows)}


def _print_row(row: Print, user: User, named: Collection[UUID], states: dict[UUID, dict[str, Any]]) -> dict[str, Any]:
    is_named = row.job_id in named
    sending = row.progress if is_named and row.status == PrintStatus.UPLOADING else None
    return {
        "print": row,
        "job": row.job if is_named else None,
        "own": row.job.owner_id == user.pk,
        "deeds": is_named and (user.is_staff or row.job.owner_id == user.pk) and not row.job.cancel_requested,
        "look": print_look(row.status),
        "sending": sending,
        "reason": row.message if is_named and row.status in (PrintStatus.UPLOADING, PrintStatus.UNKNOWN) else "",
        "state": states.get(row.printer_id) if row.printer_id and sending is None else None,
    }


def ended_unprinted(user: User) -> QuerySet[Job]:
    """Own jobs of the last month that ended without a single attempt, so the history of prints cannot show them."""
    ended = Job.objects.filter(
        owner=user, status__in=JOB_TERMINAL, prints=None, ended_at__gt=Now() - timedelta(days=30)
    )
    return ended.select_related("gcode", "model").order_by("-ended_at")[:20]
