"""Tickets for /ws/live/: a program exchanges its access token for one, so that no token ever stands in a URL.

A ticket is good once and for 30 s. Redis keeps its hash only.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Any
from uuid import UUID

import orjson
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework_simplejwt.utils import get_md5_hash_password

from farm.api import FarmView, person
from farm.models import User
from printers import telemetry

#: s until it must be used
GOOD_FOR = 30


def issue(user: User) -> str:
    ticket = secrets.token_urlsafe(32)
    holder = orjson.dumps({"user": str(user.pk), "password": get_md5_hash_password(user.password)})
    telemetry.client().set(_key(ticket), holder, ex=GOOD_FOR)
    return ticket


def take(ticket: str) -> dict[str, str] | None:
    """Use it up: the holder that :func:`holder` knows; None when it is not, or no longer, good."""
    raw: Any = telemetry.client().getdel(_key(ticket))
    return orjson.loads(raw) if raw else None


def holder(taken: dict[str, str]) -> User | None:
    """Who came with it, while they may still log in and have the password that they had."""
    user = User.objects.filter(pk=UUID(taken["user"]), is_active=True).first()
    return user if user and get_md5_hash_password(user.password) == taken["password"] else None


def _key(ticket: str) -> str:
    return f"farm:ticket:{hashlib.sha256(ticket.encode()).hexdigest()}"


class TicketSerializer(serializers.Serializer[Any]):
    ticket = serializers.CharField(help_text="the second of the subprotocols `farm.ticket` and itself")


class Ticket(FarmView):
    """A single-use ticket of 30 s for the WebSocket /ws/live/, opened with the subprotocols `farm.ticket` and it."""

    serializer_class = TicketSerializer

    def post(self, request: Request) -> Response:
        return Response({"ticket": issue(person(request))}, status=status.HTTP_201_CREATED)
