"""Slice a job: once for the first fitting printer when it is submitted, and again when it is matched to another."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

import structlog
from django.db.models import F
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now

from farm.errors import FarmError, Invalid
from farm.queue import enqueue
from jobs import attempts, dispatch, services
from jobs.matching import misfit
from jobs.models import Job, Print
from jobs.states import JobStatus, PrintStatus
from slicing.models import Gcode, PrinterProfile
from slicing.services import slice_model

log = structlog.get_logger(__name__)

#: a model that killed that many workers is not tried again
MOST_ATTEMPTS = 3
_SAY_EVERY = 0.5
_STOPPED = "Slicing this model stopped the slicer every time. It was not tried again; ask the staff to look."


class Cancelled(Exception):
    """Its owner took the job back while it was being sliced."""


def prepare(job_id: UUID) -> None:
    """Slice a submitted job and put it into the queue. Repeating is harmless."""
    if not Job.objects.filter(attempts.FREE, pk=job_id, status=JobStatus.PREPARING).update(
        worker_until=_later(), slice_attempts=F("slice_attempts") + 1
    ):
        return
    job = (
        Job.objects.select_related("model", "owner", "printer__profile", "material", "quality")
        .prefetch_related("prints__gcode")
        .get(pk=job_id)
    )
    if job.slice_attempts > MOST_ATTEMPTS:
        _fail(job, _STOPPED)
        return
    try:
        gcode = slice_for(job, first_fitting(job), _announcing(job, lambda progress: _keep_job(job, progress)))
    except Cancelled:
        return
    except Invalid as error:
        _fail(job, error.message)
    else:
        services.make_ready(job, gcode=gcode, slice_progress=1.0, worker_until=None)


def prepare_print(print_id: UUID) -> None:
    """Slice again for the printer that a print was matched to."""
    mine = Print.objects.filter(attempts.FREE, pk=print_id, status=PrintStatus.UPLOADING, worker=attempts.SLICER)
    if not mine.update(worker_until=_later(), workers=F("workers") + 1):
        return
    attempt = Print.objects.select_related("job__model", "printer__profile", "bed_clear").get(pk=print_id)
    still = Print.objects.filter(pk=print_id, status=PrintStatus.UPLOADING, worker=attempts.SLICER)
    if attempt.workers > attempts.MOST_WORKERS:
        services.not_started(attempt, PrintStatus.FAILED, _STOPPED)
        return
    try:
        if attempt.printer is not None:  # else the next step says so
            profile = attempt.printer.profile
            keep = _announcing(attempt.job, lambda _: bool(still.update(worker_until=_later())))
            gcode = slice_for(attempt.job, profile, keep)
            still.update(gcode=gcode)
    except Cancelled:
        return
    except Invalid as error:
        services.not_started(attempt, PrintStatus.FAILED, error.message, only={"worker": attempts.SLICER})
        return
    if still.update(worker="", worker_until=None):
        enqueue("jobs.send", print_id)


def first_fitting(job: Job) -> PrinterProfile:
    if job.printer is not None:
        return job.printer.profile
    need = dispatch.needs_of([job])[0]
    for offer in dispatch.offers_now():
        if misfit(need, offer) is None:
            return PrinterProfile.objects.get(pk=offer.profile[0])
    raise Invalid(
        "There is no printer that its owner may use and that this part fits on. Ask the people who run the lab."
    )


def slice_for(job: Job, profile: PrinterProfile, keep: Callable[[float], bool]) -> Gcode:
    """``keep(progress)``, asked now and then, says whether the work is still wanted. Raises Invalid with a sentence for
    the owner, Cancelled."""
    assert job.model is not None  # noqa: S101 - only jobs with a model are prepared
    try:
        how = (job.material, job.quality, job.placement)
        return slice_model(job.model, profile, job.settings, _Reporter(keep), *how)
    except (FarmError, Cancelled):
        raise
    except Exception:
        log.exception("slicing_bug", job=str(job.pk))
        raise Invalid(
            "The slicer stumbled over this model. Ask the people who run the lab: their log has the details."
        ) from None


def _announcing(job: Job, keep: Callable[[float], bool]) -> Callable[[float], bool]:
    """The same, and its owner is told how far it is."""

    def told(progress: float) -> bool:
        wanted = keep(progress)
        if wanted:
            services.announce(job)
        return wanted

    return told


def _keep_job(job: Job, progress: float) -> bool:
    return bool(
        Job.objects.filter(pk=job.pk, status=JobStatus.PREPARING, cancel_requested=False).update(
            slice_progress=progress, worker_until=_later()
        )
    )


def _later() -> CombinedExpression:
    return Now() + attempts.WORKER_TTL


def _fail(job: Job, message: str) -> None:
    services.advance(job, JobStatus.FAILED, message=message, worker_until=None)


class _Reporter:
    """Asks now and then, and ends the work when it is no longer wanted."""

    def __init__(self, keep: Callable[[float], bool]) -> None:
        self.keep, self.last = keep, time.monotonic()

    def __call__(self, progress: float) -> None:
        if time.monotonic() - self.last < _SAY_EVERY:
            return
        self.last = time.monotonic()
        if not self.keep(progress):
            raise Cancelled
