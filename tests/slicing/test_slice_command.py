"""``manage.py slice`` and ``manage.py engines``."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from slicing import profiles
from slicing.engines import replay
from slicing.management.commands.slice import BAR, Bar
from slicing.mesh import write_stl
from slicing.models import Material, Quality
from tests import shapes

pytestmark = pytest.mark.django_db


@pytest.fixture
def part(tmp_path: Path) -> Path:
    path = tmp_path / "part.stl"
    write_stl(shapes.mesh(shapes.box(12, 8, 2)), path)
    return path


def run(*words: Any, out: Path) -> str:
    said = io.StringIO()
    call_command("slice", *map(str, words), "-o", str(out), stdout=said, stderr=io.StringIO())
    return said.getvalue()


def test_a_model_is_sliced_with_the_default_profiles(part: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.gcode"
    said = run(part, out=out)
    assert said.startswith(f"{out}: ")
    assert "10 layers" in said
    assert "Built in" in said
    assert "Generic 220 x 220 x 250, 0.4 mm, PLA, Standard" in said
    assert "X 100.8 to 119.2" in said  # with its skirt
    moves = replay.parse(out.read_bytes())
    assert moves.nozzle == [215.0, 215.0, 210.0, 0.0], "the first layer is hotter"
    assert b"thumbnail begin" in out.read_bytes()


def test_profiles_are_named_by_their_beginning_and_settings_lie_over_them(part: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.gcode"
    said = run(
        *(part, "--printer", "prusa mini", "--material", "petg", "--quality", "draft"),
        *("--set", "bed_temperature=70", "--set", "walls=4", "--set", "combing=no", "--set", "seam=random"),
        out=out,
    )
    assert "Prusa MINI, 0.4 mm, PETG, Draft" in said
    assert "7 layers" in said
    text = out.read_text()
    assert "M109 S230" in text
    assert "M104 S240" in text
    assert "M190 S70" in text, "who asks for a bed means all layers"
    assert "M140 S9" not in text
    assert "; walls = 4\n" in text
    assert "; combing = False\n" in text
    assert "; seam = random\n" in text


def test_models_are_scaled_turned_copied_and_put_side_by_side(part: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.stl"
    write_stl(shapes.mesh(shapes.box(20, 20, 1)), other)
    out = tmp_path / "plate.gcode"
    run(part, other, "--copies", 2, "--scale", 2, "--rotate", "0,0,90", "--set", "skirt_loops=0", out=out)
    moves = replay.parse(out.read_bytes())
    at = moves.position
    first = moves.extruding & (at[:, 2] < 0.3) & (at[:, 1] > 10)  # without the prime line
    area = moves.delta[first, 3].sum() * math.pi * 1.75**2 / 4 / 0.2
    assert area == pytest.approx(2 * (24 * 16) + 2 * (40 * 40), rel=0.05)


def test_what_does_not_fit_on_one_bed_is_refused(part: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="do not fit on the bed"):
        run(part, "--copies", 400, out=tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "0"], "scale must be between"),
        (["--rotate", "90"], "rotation must be three numbers"),
        (["--rotate", "nan,0,0"], "rotation must be three numbers"),
        (["--rotate", "x"], "invalid angles value"),
        (["--printer", "Voron"], "More than one printer profile is called 'Voron'.*Voron 2.4 300.*Voron 2.4 350"),
        (["--material", "cheese"], "No material is called 'cheese'.*PETG"),
        (["--quality", "x"], "No quality"),
        (["--set", "walls"], "say NAME=VALUE"),
        (["--set", "cheese=1"], "say NAME=VALUE with one of layer_height"),
        (["--set", "walls=two"], "walls must be a whole number"),
        (["--set", "layer_height=thin"], "layer_height must be a number"),
        (["--set", "combing=perhaps"], "combing must be yes or no"),
        (["--set", "layer_height=5"], "layer_height must be between"),
        (["--set", "nozzle_temperature=400"], "above"),
        (["--engine", "slic3r"], "invalid choice"),
    ],
)
def test_what_cannot_be_meant_is_said_plainly(words: list[str], message: str, part: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gcode"
    with pytest.raises(CommandError, match=message):
        run(part, *words, out=out)
    assert not out.exists()


def test_files_that_are_not_there_or_no_models_are_named(part: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="nothing.stl: No such file"):
        run(tmp_path / "nothing.stl", out=tmp_path / "out")
    (tmp_path / "text.stl").write_text("hello")
    with pytest.raises(CommandError, match="not an STL file"):
        run(tmp_path / "text.stl", out=tmp_path / "out")
    with pytest.raises(CommandError, match="No such file"):
        run(part, out=tmp_path / "no" / "folder" / "out")


def test_an_engine_that_is_missing_says_so(part: Path, tmp_path: Path, settings: Settings) -> None:
    settings.FARM_PRUSASLICER = "/nowhere/prusa-slicer"
    with pytest.raises(CommandError, match="PrusaSlicer is not installed"):
        run(part, "--engine", "prusaslicer", out=tmp_path / "out")


def test_without_defaults_the_engines_own_hold(part: Path, tmp_path: Path) -> None:
    Material.objects.update(is_default=False)
    Quality.objects.update(is_default=False)
    said = run(part, out=tmp_path / "out")
    assert f"{profiles.default_profile()}\n" in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_a_bar_and_everything_else_nothing() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        bar = Bar(out)
        for share in (0.0, 0.5, 0.501, 1.0):
            bar(share)
        bar.close()
    shown = terminal.getvalue().split("\r")[1:]
    assert shown[:3] == [f"[{' ' * BAR}]   0 %", f"[{'#' * 20}{' ' * 20}]  50 %", f"[{'#' * BAR}] 100 %"]
    assert not shown[-1]
    assert pipe.getvalue() == ""


def test_the_engines_of_this_machine_are_told(settings: Settings) -> None:
    settings.FARM_CURAENGINE = "/nowhere/CuraEngine"
    said = io.StringIO()
    call_command("engines", stdout=said)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("planar")
    assert lines[2] == (
        "cura         CuraEngine is not installed on the machine that slices. Ask the people who run the lab."
    )
    assert "network" in lines[3]
