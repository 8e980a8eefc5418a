from __future__ import annotations

from typing import Any

import pytest

from printers.looks import GROUPS, LOOKS, job_title, kind_of, possible

IDLE: dict[str, Any] = {
    "status": "idle", "stale": False, "age": 0.4, "message": "", "temperatures": {}, "bed_clear": True, "bed": 3,
    "job": None, "name": "Anvil", "place": "", "enabled": True, "maintenance": "",
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
