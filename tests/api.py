"""Programs at the API's doors."""

from __future__ import annotations

from typing import Any

from rest_framework.test import APIClient

from farm.models import User


def api(user: User | None = None, **options: Any) -> APIClient:
    """A program that this person let in; nobody's without one."""
    client = APIClient(**options)
    if user is not None:
        client.force_login(user)
    return client


def refused(answer: Any, status: int, code: str = "") -> dict[str, Any]:
    """The body of a refusal: the one shape that all have."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert list(body) == ["code", "message", "extra"]
    assert body["message"].endswith((".", "?")), body
    assert isinstance(body["extra"], dict)
    if code:
        assert body["code"] == code, body
    return body


def ok(answer: Any, status: int = 200) -> Any:
    """The body of an answer that says yes."""
    assert answer.status_code == status, answer.content
    return answer.json() if answer.content else None
