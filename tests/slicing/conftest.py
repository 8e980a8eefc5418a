from __future__ import annotations

from typing import Any

import pytest

from slicing.sandbox import facts_of


@pytest.fixture(autouse=True)
def _patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are read without haste: how long a child may take is tried by itself, with children that never end."""

    def unhurried(module: str, *args: str, **_: Any) -> dict[str, Any]:
        return facts_of(module, *args, seconds=240)

    monkeypatch.setattr("slicing.services.facts_of", unhurried)
