"""What every API view shares: one error shape, repeats by Idempotency-Key, the schema."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError
from django.db.models.functions import Now
from django.http import Http404
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions, serializers, status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from farm.errors import Conflict, Invalid, understood
from farm.models import IdempotencyKey, User
from farm.throttles import RefusedThrottle


# -- errors
class ErrorSerializer(serializers.Serializer[Any]):
    """Every error looks like this."""

    code = serializers.CharField(help_text="for programs")
    message = serializers.CharField(help_text="one sentence for people: what happened and what to do")
    extra = serializers.DictField(help_text="more for programs, e.g. `fields`")


class Repeated(Exception):
    """This POST was answered before: here is that answer."""

    def __init__(self, response: Response) -> None:
        self.response = response


#: where DRF's own word is another than ours
_CODES = {exceptions.ParseError: "bad_request", exceptions.PermissionDenied: "forbidden"}


def handle_exception(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every fault of an API view as ``{code, message, extra}``. None: a bug, for the 500 handler and the log."""
    if isinstance(error, Repeated):
        return error.response
    ours = understood(error)
    if ours is not None:
        return _error(ours.status, ours.code, ours.message, ours.extra)
    if isinstance(error, Http404):
        return _error(404, "not_found", "There is nothing here, or you may not see it.")
    if isinstance(error, PermissionDenied):
        return _error(403, "forbidden", str(error) or "You may not do this here.")
    if isinstance(error, ValidationError):
        return _error(422, "invalid", " ".join(error.messages))
    if isinstance(error, exceptions.ValidationError):
        return _error(422, "invalid", _first_sentence(error.detail), {"fields": error.detail})
    if isinstance(error, exceptions.APIException):
        return _from_drf(error)
    return None


def _from_drf(error: exceptions.APIException) -> Response:
    detail: Any = error.detail
    said = detail if isinstance(detail, dict) else {"detail": detail}
    code = _CODES.get(type(error)) or str(said.get("code") or getattr(detail, "code", error.default_code))
    message = str(said.get("detail", "Not accepted."))
    response = _error(error.status_code, code, message)
    if isinstance(error, exceptions.Throttled) and (wait := getattr(error, "wait", None)) is not None:
        response["Retry-After"] = str(int(wait) + 1)
    header = getattr(error, "auth_header", None)
    if header:
        response["WWW-Authenticate"] = header
    return response


def _first_sentence(detail: Any, field: str = "") -> str:
    if isinstance(detail, dict):
        key = next(iter(detail), "")
        return _first_sentence(detail.get(key, ""), "" if key == "non_field_errors" else str(key))
    if isinstance(detail, list):
        return _first_sentence(detail[0] if detail else "Not accepted.", field)
    return f"{field}: {detail}" if field else str(detail)


def _error(code_status: int, code: str, message: str, extra: dict[str, Any] | None = None) -> Response:
    sentence = message if message.endswith((".", "?", "!")) else f"{message}."  # some of the frameworks' have no end
    return Response({"code": code, "message": sentence, "extra": extra or {}}, status=code_status)


def person(request: Request) -> User:
    """Who calls. For views that only people who logged in can reach."""
    assert isinstance(request.user, User)  # noqa: S101 - for the type checker: IsAuthenticated let them in
    return request.user


# -- repeats
#: a first request that gave no answer for so long is taken to be dead
_LOCK_TTL = timedelta(seconds=60)


class FarmView(APIView):
    """Every API view of ours: honours ``Idempotency-Key`` on POST, kept per user with a hash of the request."""

    _key: IdempotencyKey | None = None
    _refused = False

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        key = request.headers.get("Idempotency-Key", "")
        if request.method == "POST" and key and request.user.is_authenticated:
            self._key = _take_key(request, key)

    def get_throttles(self) -> list[BaseThrottle]:
        return [RefusedThrottle()] if self._refused else super().get_throttles()

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, exceptions.NotAuthenticated | exceptions.AuthenticationFailed):
            exc = self._once_too_often(exc)
        try:
            return super().handle_exception(exc)
        except Exception:
            if self._key is not None:  # a bug of ours: it may be tried again
                self._key.delete()
            raise

    def _once_too_often(self, exc: Exception) -> Exception:
        """DRF counts only those whom it lets in: here those are counted whom it turns away."""
        self._refused = True
        try:
            self.check_throttles(self.request)
        except exceptions.Throttled as throttled:
            return throttled
        return exc

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        final.headers.setdefault("Cache-Control", "no-store")  # browsers in a lab have many users
        if self._key is not None:
            _keep_answer(self._key, final)
        return final


def _take_key(request: Request, key: str) -> IdempotencyKey:
    """The lock for a first request. Raises Repeated with the stored answer, Invalid when the key was used for another
    request, Conflict while the first one is still being worked on."""
    if len(key) > 200 or not key.isascii() or not key.isprintable():
        raise Invalid("An Idempotency-Key has at most 200 plain characters.", code="idempotency_key_invalid")
    digest = _request_hash(request)
    mine = {"user": request.user, "key": key}
    stale = {"status": None, "created_at__lt": Now() - _LOCK_TTL}
    IdempotencyKey.objects.filter(**mine, **stale).delete()
    try:
        row, made = IdempotencyKey.objects.get_or_create(**mine, defaults={"request_hash": digest})
    except IntegrityError:
        row, made = IdempotencyKey.objects.get(**mine), False
    if made:
        return row
    if row.request_hash != digest:
        raise Invalid("This Idempotency-Key was used for another request.", code="idempotency_key_reused")
    if row.status is None:
        raise Conflict("The first request with this Idempotency-Key is still being worked on.", code="in_progress")
    response = Response(row.body, status=row.status)
    response["Idempotency-Replayed"] = "true"
    raise Repeated(response)


def _request_hash(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.path}".encode())
    data = request.data
    plain = {k: v for k, v in data.items() if not isinstance(v, UploadedFile)} if hasattr(data, "items") else data
    digest.update(json.dumps(plain, sort_keys=True, default=str).encode())
    for name, upload in sorted(request.FILES.items()):
        digest.update(f"{name} {upload.name}".encode())
        for chunk in upload.chunks():
            digest.update(chunk)
        upload.seek(0)
    return digest.hexdigest()


def _keep_answer(row: IdempotencyKey, response: Any) -> None:
    if not isinstance(response, Response) or response.status_code >= 500 or response.status_code in (409, 429):
        IdempotencyKey.objects.filter(pk=row.pk).delete()  # these may be tried again
        return
    body = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
    IdempotencyKey.objects.filter(pk=row.pk).update(status=response.status_code, body=body)


# -- schema
class BrowserSessionScheme(SessionScheme):
    target_class = "farm.incoming.BrowserSession"


_IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    description="A repeat with the same key and body gets the first answer, for a day; another body is refused.",
)


class FarmSchema(AutoSchema):
    """Adds to every operation the errors it may answer; a view that pages is a list."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        pages = getattr(self.view, "paginator", None) is not None and not self.path.endswith("}/")
        return self.method == "GET" and pages

    def get_operation_id(self) -> str:
        """One of several has a name of its own."""
        name = str(super().get_operation_id())
        return name.replace("_retrieve", "_retrieve_one") if self.path.endswith("/{number}/") else name

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        bodies: dict[str, Any] = super()._get_response_bodies(direction)
        for code in self._error_codes():
            bodies.setdefault(code, self._get_response_for_code(ErrorSerializer, code, direction=direction))
        return bodies

    def get_override_parameters(self) -> list[Any]:
        return [_IDEMPOTENCY_KEY] if self.method == "POST" and isinstance(self.view, FarmView) else []

    def _error_codes(self) -> list[str]:
        codes = [status.HTTP_401_UNAUTHORIZED, status.HTTP_403_FORBIDDEN, status.HTTP_429_TOO_MANY_REQUESTS]
        if "{" in self.path:
            codes.append(status.HTTP_404_NOT_FOUND)
        if self.method not in ("GET", "DELETE"):
            codes += [400, 411, 413, 415]
        if self.method != "GET":
            codes.append(409)
        if self.method != "GET" or self._is_list_view():
            codes.append(422)
        return [str(code) for code in sorted(codes)]
