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
    """``group`` is a filter of the wall: attention, printing, ready or away. ``icon``: the shape, one of
    static/icons.svg, so that no state is told by its colour alone."""

    word: str
    tone: str
    group: str
    icon: str


#: what waits for a person first, most urgent first: the wall's order
LOOKS: dict[str, Look] = {
    "bed": Look("Bed not clear", "amber", "attention", "bed"),
    "error": Look("Error", "red", "attention", "warning"),
    "lost": Look("No contact", "red", "attention", "unplugged"),
    "unclear": Look("Look at it", "amber", "attention", "eye"),
    "paused": Look("Paused", "amber", "attention", "pause"),
    "stale": Look("No contact", "grey", "attention", "unplugged"),
    "offline": Look("Offline", "grey", "attention", "unplugged"),
    "printing": Look("Printing", "blue", "printing", "nozzle"),
    "starting": Look("Starting", "blue", "printing", "play"),
    "receiving": Look("Receiving file", "blue", "printing", "download"),
    "busy": Look("Busy", "blue", "printing", "waiting"),
    "ready": Look("Ready", "green", "ready", "check"),
    "connecting": Look("Connecting", "grey", "away", "waiting"),
    "maintenance": Look("Maintenance", "violet", "away", "tool"),
    "off": Look("Switched off", "grey", "away", "power"),
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


def waited(state: dict[str, Any], now: float) -> float:
    """s that it has been in this state; of one that says nothing, since it was heard. ``now``: s since 1970."""
    if state["stale"] and state["age"] is not None:
        return float(state["age"])
    return max(0.0, now - state["since"])


def urgency(state: dict[str, Any], kind: str, now: float) -> tuple[int, float, str]:
    """The wall's order: by kind; of those who wait for somebody the longest first, the others by name."""
    longest = -waited(state, now) if LOOKS[kind].group == "attention" else 0.0
    return RANKS[kind], longest, state["name"].lower()


def job_title(job: dict[str, Any]) -> str:
    if job.get("file"):
        return str(job["file"])
    return "Started at the machine" if job["status"] == "external" else "Another person's print"


def next_words(state: dict[str, Any]) -> str:
    """What waits for this printer; whose it is for those who were told."""
    first, count = state["next"], state["waiting"]
    if not first:
        return f"{count} waiting" if count else ""
    return f"{first['file']} ({first['person']})" + (f" and {count - 1} more" if count > 1 else "")


def layer_words(job: dict[str, Any] | None) -> str:
    """``12 of 80``, if the printer says so."""
    if not job or not job.get("layer"):
        return ""
    return f"{job['layer']} of {job['layers']}" if job.get("layers") else str(job["layer"])


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
    """For the scripts: kind -> [word, tone, group, rank, icon]."""
    return {kind: [look.word, look.tone, look.group, RANKS[kind], look.icon] for kind, look in LOOKS.items()}


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
