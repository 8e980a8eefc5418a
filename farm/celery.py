"""The Celery application. Celery only wakes workers: the database is the truth."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging

app = Celery("farm")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()


@setup_logging.connect
def _keep_django_logging(**_: Any) -> None:
    """Celery would replace the root logger; ours masks secrets."""
