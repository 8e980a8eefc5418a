"""People, and what they asked for once already. Other apps refer to ``settings.AUTH_USER_MODEL``."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """A person or a program. ``is_staff`` sees and runs everything."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    @property
    def shown_name(self) -> str:
        return self.get_full_name() or self.username


class IdempotencyKey(models.Model):
    """The answer to a POST that named an Idempotency-Key, kept so that a repeat gets the same answer.

    Without an answer it is a lock: the first request is still being worked on.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    #: SHA-256 over method, path and body
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="one_answer_per_key")]

    def __str__(self) -> str:
        return f"{self.user} {self.key}"
