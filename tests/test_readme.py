"""The README tells what is there."""

from __future__ import annotations

import re

import pytest
from django.conf import settings
from pytest_django import Settings

from tests.cast import Cast, as_

README = (settings.BASE_DIR / "README.md").read_text()
ROOMS = ("farm", "slicing", "printers", "jobs")


def test_every_variable_that_is_read_is_in_the_table_and_no_other() -> None:
    code = [path.read_text() for room in ROOMS for path in (settings.BASE_DIR / room).rglob("*.py")]
    read = {name for text in code for name in re.findall(r'\benv\.\w+\(\s*"([A-Z_]+)"', text)} | {"FARM_DATA_DIR"}
    table = README.partition("| variable |")[2].partition("\n\n")[0]
    told = {name for row in table.splitlines() for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1] if row else "")}
    assert told == read


def test_every_picture_is_there_and_small() -> None:
    names = re.findall(r"docs/[\w.-]+\.png", README)
    assert names
    for name in names:
        assert (settings.BASE_DIR / name).stat().st_size < 150_000, name


def test_every_target_of_make_is_there() -> None:
    makefile = (settings.BASE_DIR / "Makefile").read_text()
    for line in re.findall(r"^    make (.+?)(?:#|$)", README, re.MULTILINE):
        for target in line.split():
            assert f"\n{target}:" in makefile, target


@pytest.mark.django_db
def test_a_lab_names_its_farm(cast: Cast, settings: Settings) -> None:
    settings.FARM_NAME = "Makers & Sons"
    assert "<title>Queue · Makers &amp; Sons</title>" in as_(cast.sam).get("/queue/").content.decode()
