"""How often one may call. A module of its own: DRF imports it while it is itself being imported."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest
from redis import Redis
from redis.exceptions import RedisError
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView


def caller_address(request: HttpRequest) -> str:
    """Whom django-axes locks out: as DRF counts callers, so behind ``FARM_PROXIES`` not everybody is the proxy."""
    asked: Any = request  # headers and META are all that it reads
    return BaseThrottle().get_ident(asked) or ""


class FarmThrottle(BaseThrottle):
    """(count, seconds) per caller, counted in Redis: DRF's own rates cannot say "100 per 15 minutes", and its counting
    is not atomic."""

    scope = ""
    retry_after: float | None = None

    def rate(self) -> tuple[int, int]:
        raise NotImplementedError

    def caller(self, request: Request) -> str | None:
        """Whom to count; None: do not."""
        raise NotImplementedError

    def allow_request(self, request: Request, view: APIView) -> bool:
        caller = self.caller(request)
        if caller is None:
            return True
        most, seconds = self.rate()
        window = int(time.time()) // seconds
        try:
            count = _count(f"farm:throttle:{self.scope}:{caller}:{window}", seconds)
        except RedisError:
            return True  # a broken Redis must not lock the lab out of its printers
        self.retry_after = (window + 1) * seconds - time.time()
        return count <= most

    def wait(self) -> float | None:
        return self.retry_after


def _count(key: str, seconds: int) -> int:
    pipe = _redis().pipeline()
    pipe.incr(key)
    pipe.expire(key, seconds)
    return int(pipe.execute()[0])


@lru_cache(maxsize=1)
def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


class AnonymousThrottle(FarmThrottle):
    scope = "anonymous"

    def rate(self) -> tuple[int, int]:
        return settings.FARM_THROTTLE_ANONYMOUS

    def caller(self, request: Request) -> str | None:
        return None if request.user and request.user.is_authenticated else self.get_ident(request)


class RefusedThrottle(AnonymousThrottle):
    """Those whom the API turns away, counted apart: a program that repeats itself with an old token must not use up
    what everybody at its address needs to log in."""

    scope = "refused"


class PersonThrottle(FarmThrottle):
    scope = "person"

    def rate(self) -> tuple[int, int]:
        return settings.FARM_THROTTLE_PERSON

    def caller(self, request: Request) -> str | None:
        return str(request.user.pk) if request.user and request.user.is_authenticated else None
