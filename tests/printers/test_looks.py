from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from printers.looks import GROUPS, LOOKS, job_title, kind_of, layer_words, next_words, possible, urgency, waited

IDLE: dict[str, Any] = {
    "status": "idle", "stale": False, "age": 0.4, "message": "", "temperatures": {}, "bed_clear": True, "bed": 3,
    "job": None, "name": "Anvil", "place": "", "enabled": True, "maintenance": "", "since": 1000, "waiting": 0,
    "next": None,
}  # fmt: skip
PRINTING = {"progress": 0.4, "elapsed_s": 60.0, "left_s": 90.0, "status": "printing"}
OURS = {**PRINTING, "id": "j", "print": "p", "file": "a.stl", "person": "Sam"}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "ready"),
        ({"bed_clear": False}, "bed"),
        ({"maintenance": "worn", "bed_clear": False}, "maintenance"),
        ({"enabled": False, "stale": True, "age": None, "status": "offline"}, "off"),
        ({"stale": True, "age": 40.0}, "stale"),
        ({"stale": True, "age": None, "status": "offline"}, "offline"),
        ({"status": "offline"}, "offline"),
        ({"stale": True, "age": 40.0, "status": "printing", "job": PRINTING}, "lost"),
        ({"status": "offline", "job": PRINTING}, "lost"),
        ({"status": "printing", "job": PRINTING, "maintenance": "worn"}, "printing"),
        ({"status": "paused", "job": PRINTING}, "paused"),
        ({"status": "error", "job": {**PRINTING, "status": "unknown"}}, "error"),
        ({"job": {**PRINTING, "status": "unknown"}}, "unclear"),
        ({"job": {**PRINTING, "status": "uploading"}, "bed_clear": False}, "receiving"),
        ({"job": {**PRINTING, "status": "starting"}, "bed_clear": False}, "starting"),
        ({"status": "connecting"}, "connecting"),
        ({"status": "busy"}, "busy"),
    ],
)
def test_it_says_what_needs_a_person_before_what_the_machine_says(changes: dict[str, Any], kind: str) -> None:
    assert kind_of({**IDLE, **changes}) == kind
    assert LOOKS[kind].group in GROUPS


@pytest.mark.parametrize(
    ("changes", "deeds"),
    [
        ({}, {"move"}),
        ({"bed_clear": False}, {"clear", "move"}),
        ({"bed_clear": False, "stale": True}, set()),
        ({"bed_clear": False, "status": "printing", "job": OURS}, {"pause", "cancel"}),
        ({"bed_clear": False, "status": "paused", "job": OURS}, {"resume", "cancel", "move"}),
        ({"status": "printing", "job": PRINTING}, set()),
        ({"status": "printing", "job": OURS, "stale": True}, set()),
    ],
)
def test_it_offers_only_what_could_be_done_now(changes: dict[str, Any], deeds: set[str]) -> None:
    assert {deed for deed, can in possible({**IDLE, **changes}).items() if can} == deeds


def test_it_names_a_job_only_to_those_who_were_told_its_name() -> None:
    assert job_title(OURS) == "a.stl"
    assert job_title(PRINTING) == "Another person's print"
    assert job_title({**PRINTING, "status": "external"}) == "Started at the machine"


def test_every_state_has_a_shape_of_its_own_kind() -> None:
    """Colour alone tells nothing to many people."""
    drawn = (Path(__file__).resolve().parents[2] / "static" / "icons.svg").read_text()
    assert [look.icon for look in LOOKS.values() if f'<symbol id="{look.icon}"' not in drawn] == []


def test_how_long_counts_from_the_change_and_for_a_silent_one_from_its_last_word() -> None:
    assert waited(IDLE, now=1090) == 90
    assert waited({**IDLE, "stale": True, "age": 40.0}, now=1090) == 40
    assert waited({**IDLE, "stale": True, "age": None}, now=1090) == 90
    assert waited(IDLE, now=990) == 0, "clocks differ"


def test_who_needs_a_person_comes_first_and_of_one_kind_who_waits_longest() -> None:
    dirty = {**IDLE, "bed_clear": False}
    waiting = [
        ("b", {**dirty, "since": 100}),
        ("a", {**dirty, "since": 900}),
        ("c", {**IDLE, "status": "error", "since": 1}),
        ("d", {**IDLE, "status": "paused", "job": OURS}),
        ("e", {**IDLE, "status": "offline"}),
        ("f", {**IDLE, "status": "printing", "job": OURS}),
        ("g", {**IDLE, "since": 950}),
        ("h", {**IDLE, "since": 1}),
    ]
    keys = {name: urgency({**state, "name": name}, kind_of(state), now=1000) for name, state in waiting}
    assert sorted(keys, key=lambda name: keys[name]) == list("bacdefgh")


@pytest.mark.parametrize(
    ("waiting", "told", "words"),
    [
        (0, None, ""),
        (2, None, "2 waiting"),
        (1, {"file": "a.stl", "person": "Sam"}, "a.stl (Sam)"),
        (3, {"file": "a.stl", "person": "Sam"}, "a.stl (Sam) and 2 more"),
    ],
)
def test_it_says_who_is_next_as_far_as_that_was_told(waiting: int, told: dict[str, str] | None, words: str) -> None:
    assert next_words({**IDLE, "waiting": waiting, "next": told}) == words


def test_it_says_the_layer_when_the_printer_does() -> None:
    assert layer_words(None) == ""
    assert layer_words(PRINTING) == ""
    assert layer_words({**PRINTING, "layer": 12, "layers": None}) == "12"
    assert layer_words({**PRINTING, "layer": 12, "layers": 80}) == "12 of 80"
