"""What stands between strangers' files and the farm: limits of the child that reads them, names, what is kept."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as farm_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError
from pytest_django import Settings

from farm.errors import Invalid, TooLarge
from slicing import sandbox, services
from slicing.models import Model3D
from slicing.profiles import default_profile
from slicing.sandbox import facts_of
from tests import shapes
from tests.cast import Cast
from tests.slicing.files import moves

GREEDY = "tests.slicing.greedy"


# -- the child
def test_a_child_has_limits_and_knows_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARM_SECRET_KEY", "do not tell")
    world = facts_of(GREEDY, "report")
    assert (world["memory"], world["file"], world["cpu"], world["core"]) == (3 * 2**30, 2**30, 20, 0)
    assert set(world["environment"]) <= {"PATH", "OPENBLAS_NUM_THREADS", "LC_ALL", "LC_CTYPE"}


def test_a_child_that_hoards_memory_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY", 512 << 20)
    with pytest.raises(Invalid, match="more memory or time than one upload may use") as refusal:
        facts_of(GREEDY, "grow", seconds=240)
    assert refusal.value.code == "unreadable"


def test_a_child_that_fills_the_disk_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "FILE", 4 << 20)
    with pytest.raises(Invalid, match="more memory or time"):
        facts_of(GREEDY, "write", seconds=240)


def test_a_child_that_computes_for_ever_ends_with_a_sentence() -> None:
    """By its CPU limit or by the clock, whichever is first on this machine."""
    with pytest.raises(Invalid, match="too long|more memory or time"):
        facts_of(GREEDY, "spin", seconds=1)


def test_a_child_that_waits_for_ever_ends_with_a_sentence() -> None:
    with pytest.raises(Invalid, match="takes too long") as refusal:
        facts_of(GREEDY, "wait", seconds=1)
    assert refusal.value.code == "too_slow"


@pytest.mark.parametrize("way", ["die", "babble", "what is not there"])
def test_a_child_that_crashes_is_a_sentence_to_its_owner_and_a_line_in_the_log(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Invalid) as refusal:
        facts_of(GREEDY, way, seconds=240)
    assert "Traceback" not in refusal.value.message
    assert "child_gave_no_facts" in caplog.text


def test_what_a_child_says_of_a_file_is_the_answer() -> None:
    with pytest.raises(Invalid, match="not a file that anybody reads"):
        facts_of(GREEDY, "complain", seconds=240)


def test_facts_that_are_out_count_also_if_the_child_crashes_afterwards() -> None:
    assert facts_of(GREEDY, "falter", seconds=240) == {"triangles": 12}


# -- names
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("part.stl", "part.stl"),
        ("Größe 2 (final).stl", "Größe 2 (final).stl"),
        ("../../etc/passwd.stl", "passwd.stl"),
        ("..\\..\\windows\\part.stl", "part.stl"),
        ("/etc/part.stl", "part.stl"),
        ("two\nlines\r\n.stl", "twolines.stl"),
        ("nul\x00byte.stl", "nulbyte.stl"),
        ("\u202elts.exe.stl", "lts.exe.stl"),
        ("zero\u200bwidth.stl", "zerowidth.stl"),
        ("  spaces  .stl ", "spaces  .stl"),
        ("-rf.stl", "-rf.stl"),
        ("<img src=x>.stl", "<img src=x>.stl"),
        ("x" * 500 + ".stl", "x" * 190 + ".stl"),
        ("y" * 500, "y" * 200),
        ("z." + "s" * 500, "z." + "s" * 9),
    ],
)
def test_a_name_is_one_short_visible_line(given: str, shown: str) -> None:
    assert services.clean_name(given) == shown
    assert len(shown) <= 200


# -- taking in
def stl(*size: float) -> bytes:
    return shapes.stl(shapes.box(*(size or (20, 10, 5))))


@pytest.mark.django_db
def test_a_model_is_kept_under_its_id_for_the_farm_alone(cast: Cast) -> None:
    model = services.accept_model(cast.sam, SimpleUploadedFile("../../part.stl", stl()))
    path = Path(model.file.path)
    assert path.name == str(model.pk)
    assert path.is_relative_to(Path(farm_settings.MEDIA_ROOT).resolve())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert path.read_bytes() == stl()
    assert model.size_mm == [20, 10, 5]


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_row_that_cannot_be_written_leaves_no_file(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise IntegrityError("disk I/O error")

    monkeypatch.setattr(Model3D, "save", fail)
    with pytest.raises(IntegrityError):
        services.accept_model(cast.sam, SimpleUploadedFile("part.stl", stl()))


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_file_over_the_limit_is_refused_before_it_is_read(
    cast: Cast, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.FARM_MAX_UPLOAD = 100
    monkeypatch.setattr(services, "facts_of", lambda *_: pytest.fail("It was read."))
    with pytest.raises(TooLarge):
        services.accept_model(cast.sam, SimpleUploadedFile("part.stl", stl()))
    with pytest.raises(TooLarge):
        services.accept_gcode(cast.olivia, SimpleUploadedFile("part.gcode", b"G1 X1 E1\n" * 20), default_profile())


@pytest.mark.usefixtures("nothing_is_kept")
def test_more_triangles_than_the_lab_allows_are_refused(cast: Cast, settings: Settings) -> None:
    settings.FARM_MAX_TRIANGLES = 11
    with pytest.raises(Invalid, match="12 triangles; at most 11"):
        services.accept_model(cast.sam, SimpleUploadedFile("part.stl", stl()))


@pytest.mark.usefixtures("nothing_is_kept")
def test_a_limit_that_is_broken_in_the_middle_of_an_upload_keeps_nothing(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MEMORY", 60 << 20)  # too little to start in
    with pytest.raises(Invalid, match="more memory"):
        services.accept_model(cast.sam, SimpleUploadedFile("part.stl", stl()))


# -- G-code and its machine
@pytest.mark.django_db
def test_gcode_that_a_machine_may_run_is_kept_with_its_facts(cast: Cast) -> None:
    upload = SimpleUploadedFile("part.gcode", moves("G1 X30 E1", "G1 Z0.4", "G1 X10 E1"))
    code = services.accept_gcode(cast.olivia, upload, default_profile())
    assert (code.owner, code.profile_revision, code.layers) == (cast.olivia, default_profile().revision, 2)
    assert code.filament_mm == pytest.approx(4)
    assert code.time_s > 0
    assert code.facts["nozzle_temperature"] == 200


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("G1 X221 E1", "outside of the printable volume"),
        ("G1 X-1", "outside of the printable volume"),
        ("G1 Z251", "outside of the printable volume"),
        ("G1 Z-0.5 E1", "outside of the printable volume"),
        ("g1x400e1", "outside of the printable volume"),
        ("N10 G1 X400 E1*57", "outside of the printable volume"),
        ("G91\nG1 X150\nG1 X150 E1\nG90", "outside of the printable volume"),
        ("G92 X100\nG1 X310 E1", "outside of the printable volume"),
        ("M104 S286", "heats the nozzle to 286 C; this printer allows 285 C"),
        ("M109 S400", "heats the nozzle"),
        ("M109 R400", "heats the nozzle"),
        ("m104s400", "heats the nozzle"),
        ("M104 T1 S400", "heats the nozzle"),
        ("M140 S111", "heats the bed to 111 C; this printer allows 110 C"),
        ("M190 R150", "heats the bed"),
        ("SET_HEATER_TEMPERATURE HEATER=extruder TARGET=400", "heats the nozzle"),
        ("set_heater_temperature heater=heater_bed target=150", "heats the bed"),
    ],
)
@pytest.mark.usefixtures("nothing_is_kept")
def test_gcode_that_would_leave_the_bed_or_overheat_is_refused(cast: Cast, line: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason) as refusal:
        services.accept_gcode(cast.olivia, SimpleUploadedFile("part.gcode", moves(line)), default_profile())
    assert refusal.value.code == "unreadable"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("part.gcode", b"\x7fELF\0\0\0" + bytes(100)),
        ("part.gcode", b"G28\nM104 S200\n"),
        ("part.gcode", b"A poem of no machine.\n" * 100),
        ("part.bgcode", b"GCDE" + b"\xff" * 100),
        ("part.bgcode", b"GCDE\x01\0\0\0\x01\0"),
    ],
    ids=["binary", "prints nothing", "prose", "damaged binary G-code", "binary G-code cut off"],
)
@pytest.mark.usefixtures("nothing_is_kept")
def test_what_is_no_print_is_refused(cast: Cast, name: str, content: bytes) -> None:
    with pytest.raises(Invalid) as refusal:
        services.accept_gcode(cast.olivia, SimpleUploadedFile(name, content), default_profile())
    assert "more memory or time" not in refusal.value.message
