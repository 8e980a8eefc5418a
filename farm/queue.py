"""Hand work to a Celery worker: by task name (so that services never import tasks), after commit.

What the broker forgets, a periodic sweep finds again: enqueueing is for speed, never for truth.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

log = structlog.get_logger(__name__)


def enqueue(task: str, *args: Any) -> None:
    """Send ``task`` once the current transaction is committed. Ids as strings: JSON only."""
    transaction.on_commit(lambda: _send(task, [str(arg) for arg in args]))


def _send(task: str, args: list[str]) -> None:
    try:
        current_app.send_task(task, args=args, retry=False)
    except OperationalError as error:
        log.warning("task_not_sent", task=task, args=args, error=str(error))  # the sweep will find it
