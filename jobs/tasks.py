"""Doors for Celery: ids in, one service call. Every task may run twice, late or at the same time as itself."""

from __future__ import annotations

from uuid import UUID

from celery import shared_task
from django.conf import settings

from jobs import attempts, dispatch, estimates, preparing, sweep


@shared_task(name="jobs.slice", time_limit=settings.FARM_SLICE_TIMEOUT)
def slice_job(job_id: str, print_id: str = "") -> None:
    if print_id:
        preparing.prepare_print(UUID(print_id))
    else:
        preparing.prepare(UUID(job_id))


@shared_task(name="jobs.estimate", time_limit=settings.FARM_SLICE_TIMEOUT)
def estimate(owner_id: str, estimate_id: str) -> None:
    estimates.work(owner_id, estimate_id)


@shared_task(name="jobs.dispatch")
def dispatch_jobs() -> None:
    dispatch.dispatch()


@shared_task(name="jobs.send")
def send(print_id: str) -> None:
    attempts.send(UUID(print_id))


@shared_task(name="jobs.reconcile")
def reconcile(print_id: str) -> None:
    attempts.reconcile(UUID(print_id))


@shared_task(name="jobs.clean_up")
def clean_up(print_id: str) -> None:
    attempts.clean_up(UUID(print_id))


@shared_task(name="jobs.sweep")
def sweep_all() -> None:
    sweep.sweep()


@shared_task(name="jobs.housekeeping")
def housekeeping() -> None:
    sweep.housekeeping()
