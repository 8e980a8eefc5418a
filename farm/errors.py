"""What the farm answers when it cannot do as asked.

::

    FarmError            500
     +- BadRequest       400   the request itself is malformed
     +- Forbidden        403   you may see it, your role is too weak
     +- NotFound         404   it is not there, or you may not know that it is
     +- Conflict         409   the world has moved on: look again
     +- TooLarge         413
     +- Invalid          422   understood, but it cannot be used: change it
     +- TooMany          429   you have enough of these: end one first
     +- Unavailable      503   something we need does not answer: try again later

The docstring is the default message. ``code`` is for programs, ``message`` for people, ``extra`` for both.
"""

from __future__ import annotations

from typing import Any, ClassVar

import structlog
from django.db import OperationalError
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class FarmError(Exception):
    """Something went wrong in the farm."""

    status: ClassVar[int] = 500
    code: str = "error"

    def __init__(self, message: str = "", *, code: str = "", **extra: Any) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.code = code or type(self).code
        self.extra = extra
        super().__init__(self.message)


class BadRequest(FarmError):
    """The request could not be understood."""

    status = 400
    code = "bad_request"


class Forbidden(FarmError):
    """You may not do this here. Ask the people who run the lab for the right."""

    status = 403
    code = "forbidden"


class NotFound(FarmError):
    """There is nothing here, or you may not see it."""

    status = 404
    code = "not_found"


class Conflict(FarmError):
    """This is no longer possible. Look again."""

    status = 409
    code = "conflict"


class TooLarge(FarmError):
    """That is larger than this farm accepts."""

    status = 413
    code = "too_large"


class Invalid(FarmError):
    """This cannot be used."""

    status = 422
    code = "invalid"


class TooMany(FarmError):
    """You have as many of these open as one may have. End one of them first."""

    status = 429
    code = "too_many"


class Unavailable(FarmError):
    """Something the farm needs does not answer. Try again in a moment."""

    status = 503
    code = "unavailable"


def understood(error: Exception) -> FarmError | None:
    """What of ours an exception from inside means; None: a bug. A database or a Redis that does not answer is none."""
    if isinstance(error, FarmError):
        return error
    if isinstance(error, RedisError | OperationalError):
        log.error("unavailable", error=str(error), exc_info=error)
        return Unavailable()
    return None
