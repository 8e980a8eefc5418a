"""How a printer's state is called and coloured for people. Pure: a state as in printers.views in, words out.

``web/words.js`` decides the same in the browser (``kindOf``), with these words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from farm.templatetags.shown import heater
from printers.models import Command, CommandKind, CommandStatus


@dataclass(frozen=True, slots=True)
class Look:
    """``group`` is a filter of the wall: attention, printing, ready or away."""

    word: str
    tone: str
    group: str


#: most urgent first: the wall's order
LOOKS: dict[str, Look] = {
    "error": Look("Error", "red", "attention"),
    "lost": Look("No contact", "red", "attention"),
    "unclear": Look("Look at it", "amber", "attention"),
    "bed": Look("Bed not clear", "amber", "attention"),
    "paused": Look("Paused", "amber", "attention"),
    "printing": Look("Printing", "blue", "printing"),
    "starting": Look("Starting", "blue", "printing"),
    "receiving": Look("Receiving file", "blue", "printing"),
    "busy": Look("Busy", "blue", "printing"),
    "ready": Look("Ready", "green", "ready"),
    "connecting": Look("Connecting", "grey", "away"),
    "stale": Look("No contact", "grey", "away"),
    "offline": Look("Offline", "grey", "away"),
    "maintenance": Look("Maintenance", "violet", "away"),
    "off": Look("Switched off", "grey", "away"),
}
RANKS = {kind: rank for rank, kind in enumerate(LOOKS)}
GROUPS = {"attention": "Needs attention", "printing": "Printing", "ready": "Ready", "away": "Not available"}


def kind_of(state: dict[str, Any]) -> str:
    """Which of LOOKS. What needs a person comes before what the machine says of itself."""
    status, job = state["status"], state["job"]
    ours = job["status"] if job else ""
    if not state["enabled"]:
        return "off"
    if state["stale"] or status == "offline":
        silent = "offline" if state["age"] is None or not state["stale"] else "stale"
        return "lost" if job else silent
    if ours == "unknown" and status != "error":
        return "unclear"
    return _idle_kind(state, ours) if status == "idle" else str(status)


def _idle_kind(state: dict[str, Any], ours: str) -> str:
    if ours in ("uploading", "starting"):
        return "receiving" if ours == "uploading" else "starting"
    if state["maintenance"]:
        return "maintenance"
    return "ready" if state["bed_clear"] else "bed"


def job_title(job: dict[str, Any]) -> str:
    if job.get("file"):
        return str(job["file"])
    return "Started at the machine" if job["status"] == "external" else "Another person's print"


def possible(state: dict[str, Any]) -> dict[str, bool]:
    """What could be asked of the printer now by somebody who may."""
    job, status, heard = state["job"], state["status"], not state["stale"]
    ours = bool(job and job.get("print") and heard)
    return {
        "clear": heard and status == "idle" and not job and not state["bed_clear"],
        "pause": ours and status == "printing",
        "resume": ours and status == "paused",
        "cancel": ours and status in ("printing", "paused"),
        "move": heard and status not in ("printing", "busy"),
    }


def looks_for_script() -> dict[str, list[str | int]]:
    """For the scripts: kind -> [word, tone, group, rank]."""
    return {kind: [look.word, look.tone, look.group, RANKS[kind]] for kind, look in LOOKS.items()}


# -- commands
#: status -> (what became of it, tone, icon)
OUTCOMES: dict[str, tuple[str, str, str]] = {
    CommandStatus.QUEUED: ("waiting to be sent", "blue", "waiting"),
    CommandStatus.SENT: ("sent, waiting for the printer to confirm", "blue", "waiting"),
    CommandStatus.DONE: ("done", "green", "check"),
    CommandStatus.REFUSED: ("refused by the printer", "red", "cross"),
    CommandStatus.FAILED: ("not sent", "red", "cross"),
    CommandStatus.EXPIRED: ("not sent in time, and never will be", "red", "cross"),
    CommandStatus.UNCLEAR: ("sent, but nobody knows what became of it", "amber", "warning"),
}
_TITLES = {
    CommandKind.START: "Start the print",
    CommandKind.PAUSE: "Pause",
    CommandKind.RESUME: "Resume",
    CommandKind.CANCEL: "Cancel the print",
    CommandKind.FIRMWARE_RESTART: "Restart the firmware",
    CommandKind.EMERGENCY_STOP: "Emergency stop",
}


def outcome_word(command: Command) -> str:
    """What became of it. Done without a further word means that the printer's state showed it."""
    seen = command.status == CommandStatus.DONE and not command.message
    return "confirmed by the printer" if seen else OUTCOMES[command.status][0]


def command_title(command: Command) -> str:
    """One line: what was asked."""
    args = command.args
    if command.kind == CommandKind.HOME:
        return f"Home {', '.join(args['axes'])}"
    if command.kind == CommandKind.JOG:
        return "Move " + ", ".join(f"{axis} by {distance:+g} mm" for axis, distance in args["moves"].items())
    if command.kind == CommandKind.SET_TEMPERATURE:
        name = heater(args["heater"])
        return f"{name} to {args['target']:g} °C" if args["target"] else f"{name} off"
    if command.kind == CommandKind.GCODE:
        more = len(args["lines"]) - 1
        return f"Console: {args['lines'][0]}" + (f" and {more} more" if more else "")
    return _TITLES[CommandKind(command.kind)]
