"""What every page shares."""

from __future__ import annotations

from django.http import HttpRequest

from farm.errors import Invalid
from farm.models import User


def person(request: HttpRequest) -> User:
    """Who looks. For pages that only people who logged in can reach."""
    assert isinstance(request.user, User)  # noqa: S101 - for the type checker: the middleware let them in
    return request.user


def by_htmx(request: HttpRequest) -> bool:
    """A part of a page is asked for, not a whole one."""
    return bool(getattr(request, "htmx", False))


def target(request: HttpRequest) -> str:
    """The id of the element that the answer replaces."""
    return str(request.headers.get("HX-Target", ""))


def number(text: str, name: str) -> float:
    """What somebody typed into a field. Raises Invalid."""
    try:
        return float(text)
    except ValueError:
        raise Invalid(f"{name.capitalize()} must be a number.", field=name) from None


def whole(text: str, name: str) -> int:
    """Likewise, 0 to 999999. Raises Invalid."""
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise Invalid(f"{name.capitalize()} must be a whole number.", field=name)
    return int(text)
