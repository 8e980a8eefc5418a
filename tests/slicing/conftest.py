from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as farm_settings

from slicing.models import Gcode, Model3D
from slicing.sandbox import facts_of
from tests.cast import Cast


@pytest.fixture(autouse=True)
def _patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads are read without haste: how long a child may take is tried by itself, with children that never end."""

    def unhurried(module: str, *args: str, **_: Any) -> dict[str, Any]:
        return facts_of(module, *args, seconds=240)

    monkeypatch.setattr("slicing.services.facts_of", unhurried)


def kept() -> set[Path]:
    """Every file that the farm has, those of uploads on their way included."""
    folders = (Path(farm_settings.MEDIA_ROOT), Path(str(farm_settings.FILE_UPLOAD_TEMP_DIR)))
    return {path for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def nothing_is_kept(cast: Cast) -> Iterator[None]:
    """No row and no file comes of what the test does."""
    before = kept()
    yield
    assert kept() == before
    assert not Model3D.objects.exists()
    assert not Gcode.objects.exists()
