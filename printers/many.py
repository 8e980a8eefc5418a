"""One deed on many printers: each by the same service as alone, with the same rights; one that is refused stops no
other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from farm.errors import FarmError, Invalid
from farm.models import User
from printers import access, services
from printers.commands import request_command
from printers.models import CommandKind, Printer, Role

#: printers of one request
MOST = 1000


@dataclass(frozen=True, slots=True)
class Deed:
    """How it is called on its button, and how those are called on which it is done."""

    word: str
    done: str
    icon: str


DEEDS = {
    "pause": Deed("Pause", "asked to pause", "pause"),
    "resume": Deed("Resume", "asked to resume", "play"),
    "cancel": Deed("Cancel prints", "asked to cancel", "cross"),
    "clear_bed": Deed("Clear beds", "cleared", "bed"),
    "begin_maintenance": Deed("Begin maintenance", "in maintenance", "tool"),
    "end_maintenance": Deed("End maintenance", "back in service", "check"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A printer, and what whoever wishes it saw there: the bed that lies empty, the print that is meant."""

    printer: str
    bed: int | None = None
    print_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    printer: str  # id
    name: str  # "" of a printer that this person may not see
    done: bool
    message: str = ""  # why not
    code: str = ""


def wish(text: str) -> Wish:
    """From a form: ``<printer id>``, ``<printer id> bed <n>`` or ``<printer id> print <id>``. Raises Invalid."""
    printer, _, seen = text.partition(" ")
    what, _, value = seen.partition(" ")
    try:
        if what == "bed":
            return Wish(printer=printer, bed=int(value))
        return Wish(printer=printer, print_id=UUID(value) if what == "print" else None)
    except ValueError:
        raise Invalid("This is not what a printer's card said.", field="printer") from None


def act(user: User, deed: str, wishes: Sequence[Wish], reason: str = "") -> list[Outcome]:
    """Do it on each. Raises Invalid when nothing of it makes sense."""
    if deed not in DEEDS:
        raise Invalid(f"Unknown action {deed!r}. One of: {', '.join(DEEDS)}.", field="action")
    if not wishes or len(wishes) > MOST:
        raise Invalid(f"Name 1 to {MOST} printers.", field="printers")
    if deed == "begin_maintenance" and not 0 < len(reason.strip()) <= 200:
        raise Invalid("Say in a few words why nothing may be printed on them.", field="reason")
    do = _doer(user, deed, reason.strip())
    return [_one(user, wish, do) for wish in wishes]


def _one(user: User, wish: Wish, do: Callable[[Printer, Wish], None]) -> Outcome:
    name = ""
    try:
        printer = access.get(user, wish.printer, Role.VIEW)
        name = printer.name
        do(access.get(user, wish.printer, Role.OPERATE), wish)
    except FarmError as error:
        return Outcome(printer=wish.printer, name=name, done=False, message=error.message, code=error.code)
    return Outcome(printer=wish.printer, name=name, done=True)


def _doer(user: User, deed: str, reason: str) -> Callable[[Printer, Wish], None]:
    def clear(printer: Printer, wish: Wish) -> None:
        if wish.bed is None:
            raise Invalid("Say which bed was seen empty: the number that the printer's state showed.", field="bed")
        services.clear_bed(printer, wish.bed, by=user)

    def maintain(printer: Printer, _: Wish) -> None:
        services.change_printer(printer, maintenance=reason if deed == "begin_maintenance" else "")

    def command(printer: Printer, wish: Wish) -> None:
        request_command(printer, CommandKind(deed), {}, by=user, print_id=wish.print_id)

    return clear if deed == "clear_bed" else maintain if deed.endswith("_maintenance") else command
