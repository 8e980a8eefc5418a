"""The Celery application. Celery only wakes workers: the database is the truth."""

from __future__ import annotations

import gc
from typing import Any, cast

import click
from celery import Celery, bootsteps
from celery.beat import EmbeddedService
from celery.signals import setup_logging, worker_init

app = Celery("farm")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:
    """Celery would replace the root logger; ours masks secrets."""


@worker_init.connect
def _share_memory_with_pool(**_: Any) -> None:
    """What is loaded by now stays: the collector need not visit it, so the pool's processes go on sharing its memory
    with the one that they were forked from (20 MB less for each)."""
    gc.collect()
    gc.freeze()


class Clock(bootsteps.StartStopStep):
    """``celery worker --clock``: beat in a thread of the worker.

    Celery's own ``--beat`` forks a process for it, which costs 55 MB and outlives a worker that is killed.
    """

    def __init__(self, worker: Any, clock: bool = False, **_: Any) -> None:
        self.enabled = clock
        self._beat: Any = None

    def start(self, worker: Any) -> None:
        self._beat = cast(Any, EmbeddedService(worker.app, thread=True))
        self._beat.daemon = True
        self._beat.start()

    def stop(self, worker: Any) -> None:
        if self._beat is not None:
            self._beat.stop()


app.steps["worker"].add(Clock)
app.user_options["worker"].add(click.Option(["--clock"], is_flag=True, help="Wake the periodic tasks, too."))
