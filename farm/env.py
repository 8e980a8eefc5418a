"""Read one environment variable, typed. A wrong value stops the start and names the variable."""

from __future__ import annotations

import os
import secrets
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}


def text(name: str, default: str = "") -> str:
    """The variable, else the content of the file that ``<NAME>_FILE`` names (an address may hold a password)."""
    if name not in os.environ and os.environ.get(f"{name}_FILE"):
        return Path(os.environ[f"{name}_FILE"]).read_text().strip()
    return os.environ.get(name, default)


def flag(name: str, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in TRUE:
        return True
    if value.lower() in FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of true, false; it is {value!r}")


def number(name: str, default: int, low: int = 0, high: int = 2**31) -> int:
    value = os.environ.get(name)
    if value is None:
        return default
    try:
        result = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number; it is {value!r}") from None
    if not low <= result <= high:
        raise ImproperlyConfigured(f"{name} must be between {low} and {high}; it is {result}")
    return result


def words(name: str, default: str = "") -> list[str]:
    """Comma-separated values."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def networks(name: str, default: str) -> list[IPv4Network | IPv6Network]:
    try:
        return [ip_network(word) for word in words(name, default)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name}: {error}") from None


def data_dir() -> Path:
    """``FARM_DATA_DIR`` (manage.py's ``--data-dir`` sets it): database, files, secrets. Made on first use, private."""
    path = Path(text("FARM_DATA_DIR") or Path(__file__).resolve().parent.parent / "data").absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def secret(name: str, make: str | None = None) -> str:
    """The variable, else ``<NAME>_FILE``'s content, else a 0600 file in the data folder, generated on first start.

    ``make`` is the value to store when nothing is there yet (default: 50 random URL-safe characters).
    """
    if os.environ.get(name):
        return os.environ[name]
    if os.environ.get(f"{name}_FILE"):
        return Path(os.environ[f"{name}_FILE"]).read_text().strip()
    path = data_dir() / "secrets" / name.lower()
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return _read_or_make(path, make or secrets.token_urlsafe(50))


def _read_or_make(path: Path, value: str) -> str:
    """Several processes may start at once: only one may create the file, and nobody may read half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        pass
    temporary.touch(mode=0o600)
    temporary.write_text(value)
    try:
        os.link(temporary, path)  # fails if somebody was faster: atomic, unlike exists() + rename
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_text().strip()
