"""Random passwords and keys for compose.yaml, into deploy/secrets/. What is there already is kept.

The folder is for its owner only; the files in it are readable, because containers read them as another user.
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"


def keep(name: str, value: str) -> str:
    """Write ``value`` unless there is one; the one that counts."""
    path = FOLDER / name
    if not path.exists():
        path.write_text(value)
        path.chmod(0o644)
    return path.read_text()


def main() -> None:
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    keep("farm_secret_key", secrets.token_urlsafe(50))
    keep("farm_jwt_key", secrets.token_urlsafe(50))
    keep("farm_field_keys", base64.urlsafe_b64encode(os.urandom(32)).decode())
    database = keep("postgres_password", secrets.token_urlsafe(24))
    keep("database_url", f"postgresql://farm:{database}@db:5432/farm")
    redis = keep("redis_password", secrets.token_urlsafe(24))
    keep("redis_url", f"redis://:{redis}@redis:6379/0")


if __name__ == "__main__":
    main()
