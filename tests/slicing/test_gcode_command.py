"""``manage.py gcode``: facts of files on this machine."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from slicing.models import PrinterProfile

pytestmark = pytest.mark.django_db

SAMPLES = Path(__file__).resolve().parents[1] / "data" / "gcode"
PRUSA, CURA = str(SAMPLES / "prusaslicer.gcode"), str(SAMPLES / "cura.gcode")


def said(*words: str) -> str:
    out = io.StringIO()
    call_command("gcode", *words, stdout=out)
    return out.getvalue()


def test_it_tells_people_what_is_in_a_file() -> None:
    lines = said(PRUSA).splitlines()
    assert lines[0] == PRUSA
    assert dict(line.split(None, 1) for line in lines[1:] if line) == {
        "slicer": "PrusaSlicer 2.5.0",
        "time": "1m 4s (its slicer says 1m 4s)",
        "filament": "0.05 m, 0.11 cm3, 0.14 g of PETG",
        "layers": "4 of 0.25 mm, the first of 0.25 mm",
        "size": "22.9 x 22.9 x 1.0 mm, from X88.554 Y88.554 to X111.446 Y111.446",
        "heat": "nozzle 240 C, bed 85 C",
    }


def test_it_tells_programs_the_same() -> None:
    first, second = (json.loads(line) for line in said("--json", PRUSA, CURA).splitlines())
    assert (first["file"], first["slicer"], first["layers"]) == (PRUSA, "PrusaSlicer", 4)
    assert (second["file"], second["slicer"]) == (CURA, "Cura")


def test_it_says_whether_a_printer_may_run_it() -> None:
    profile = PrinterProfile.objects.get(is_default=True)
    assert said("--printer", profile.name, PRUSA)
    with pytest.raises(CommandError, match="outside of the printable volume"):
        said("--printer", profile.name, CURA)  # it stands in the middle of a round bed
    with pytest.raises(CommandError, match="no printer profile 'Nonesuch'; there are: "):
        said("--printer", "Nonesuch", PRUSA)


def test_it_draws_a_layer(tmp_path: Path) -> None:
    out = tmp_path / "layer.png"
    said(PRUSA, "--layer", "4", "-o", str(out))
    with Image.open(out) as image:
        assert image.getchannel("A").getextrema() == (0, 255)
    with pytest.raises(CommandError, match="no layer"):
        said(PRUSA, "--layer", "5", "-o", str(out))
    with pytest.raises(CommandError, match="say which"):
        said(PRUSA, "--layer", "1")


def test_it_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nowhere.gcode: No such file"):
        said(str(tmp_path / "nowhere.gcode"))
    (tmp_path / "a.gcode").write_text("hello\n")
    with pytest.raises(CommandError, match="prints nothing"):
        said(str(tmp_path / "a.gcode"))
