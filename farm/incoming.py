"""How requests to the API are read. A module of its own: DRF imports it while it is itself being imported."""

from __future__ import annotations

from typing import IO, Any

import orjson
from django.db import models
from django_filters.rest_framework import DjangoFilterBackend, FilterSet
from django_filters.rest_framework.filters import UUIDFilter
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.parsers import JSONParser


class StrictJson(JSONParser):
    """JSON by the book. DRF's own lets half of a surrogate pair through, which no database stores, and breaks on
    brackets nested ten thousand deep."""

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            return orjson.loads(stream.read())
        except orjson.JSONDecodeError as error:
            raise ParseError(f"The body is not JSON: {error}.") from None


class CsrfFailed(PermissionDenied):
    """A session without the token that only our own pages know."""

    default_code = "csrf"
    default_detail = "Send the CSRF token of the session as X-CSRFToken, or use an access token."


class BrowserSession(SessionAuthentication):
    def enforce_csrf(self, request: Any) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied:
            raise CsrfFailed from None


class ByColumn(FilterSet):
    """A foreign key is filtered by its value. Asking the other table first would tell what exists there to people who
    may not see it."""

    class Meta:
        filter_overrides = {models.ForeignKey: {"filter_class": UUIDFilter}}  # noqa: RUF012 - django-filter reads it


class Filters(DjangoFilterBackend):
    filterset_base = ByColumn
