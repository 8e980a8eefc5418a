"""Printer credentials at rest: sealed by the newest of ``FARM_FIELD_KEYS``, opened by any of them."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from farm.errors import Unavailable


def _box() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.FARM_FIELD_KEYS])


def seal(secret: str) -> str:
    return _box().encrypt(secret.encode()).decode() if secret else ""


def unseal(sealed: str) -> str:
    """Raises Unavailable when none of our keys made it."""
    if not sealed:
        return ""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unavailable(
            "This printer's API key was sealed with a key the farm no longer has. Enter the API key again."
        ) from None


def reseal(sealed: str) -> str:
    """The same secret under the newest key."""
    return _box().rotate(sealed.encode()).decode() if sealed else ""
