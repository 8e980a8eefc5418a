"""What is asked of printers: checked when it is asked, queued, sent by one bridge once, ended once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from farm.errors import Conflict, Invalid
from farm.models import User
from printers import console, services, telemetry
from printers.drivers import DRIVERS
from printers.drivers.base import Capability, DriverError, PrinterStatus, Unreachable
from printers.models import COMMAND_OPEN, Command, CommandKind, CommandStatus, Lease, Printer
from printers.signals import occupants, start_ended

log = structlog.get_logger(__name__)

#: s; a command that was not sent by then is never sent
COMMAND_TTL = 30
#: s between the commit of `starting` and the request that starts
START_TTL = 5

_NEEDS: dict[str, Capability] = {
    CommandKind.PAUSE: Capability.PAUSE,
    CommandKind.RESUME: Capability.PAUSE,
    CommandKind.HOME: Capability.HOME,
    CommandKind.JOG: Capability.JOG,
    CommandKind.SET_TEMPERATURE: Capability.SET_TEMPERATURE,
    CommandKind.GCODE: Capability.GCODE,
    CommandKind.FIRMWARE_RESTART: Capability.FIRMWARE_RESTART,
    CommandKind.EMERGENCY_STOP: Capability.EMERGENCY_STOP,
}
#: these are meant for one print, and only for that one
FOR_A_PRINT = (CommandKind.PAUSE, CommandKind.RESUME, CommandKind.CANCEL)
#: these would ruin a running print
_NOT_WHILE_PRINTING = (CommandKind.HOME, CommandKind.JOG, CommandKind.GCODE, CommandKind.FIRMWARE_RESTART)


def request_command(
    printer: Printer, kind: str, args: dict[str, Any], *, by: User | None, print_id: UUID | None = None
) -> Command:
    """A person commands. Raises Invalid (arguments, capability), Conflict (not the live print, not now)."""
    if kind not in CommandKind.values or kind == CommandKind.START:
        raise Invalid(f"Unknown command {kind!r}.", field="command")
    needed = _NEEDS.get(kind)
    if needed and needed not in DRIVERS[printer.kind].capabilities:
        raise Invalid(f"{printer.name} cannot do that.", code="unsupported")
    _check_print(printer, kind, print_id)
    args = check_args(kind, args, printer)
    if kind in _NOT_WHILE_PRINTING:
        _check_not_printing(printer, kind)
    if kind == CommandKind.EMERGENCY_STOP:
        return _emergency_stop(printer, by)
    return _queue(printer, kind, args, by=by, print_id=print_id, ttl=COMMAND_TTL)


def _check_print(printer: Printer, kind: str, print_id: UUID | None) -> None:
    if kind not in FOR_A_PRINT:
        return
    if print_id is None:
        raise Invalid("Say which print is meant: its id, as in the printer's state.", field="print")
    live = occupants([printer.pk]).get(printer.pk)
    if live is None or live.print_id != print_id:
        raise Conflict("That print is no longer on this printer. Look again.", code="not_live")


def _check_not_printing(printer: Printer, kind: str) -> None:
    snapshot = telemetry.read([printer.pk]).get(printer.pk)
    state = snapshot.state if snapshot and not snapshot.stale else None
    if state is None:
        raise Conflict(f"{printer.name} has not been heard from: it cannot be commanded now.", code="stale")
    busy = state.status in (PrinterStatus.PRINTING, PrinterStatus.BUSY)
    paused = state.status == PrinterStatus.PAUSED and kind != CommandKind.JOG
    if busy or paused or (occupants([printer.pk]) and kind != CommandKind.JOG):
        raise Conflict(f"{printer.name} is printing: that would ruin the print.", code="printing")


def check_args(kind: str, args: dict[str, Any], printer: Printer) -> dict[str, Any]:
    """The arguments a command needs, checked against the machine. Raises Invalid."""
    machine = printer.profile.machine
    if kind == CommandKind.HOME:
        axes = args.get("axes", ["x", "y", "z"])
        if not isinstance(axes, list) or not axes or not set(axes) <= {"x", "y", "z"}:
            raise Invalid("axes: a list of x, y and z.", field="axes")
        return {"axes": axes}
    if kind == CommandKind.JOG:
        moves = {axis: _number(args, axis, -500, 500) for axis in ("x", "y", "z") if axis in args}
        if not any(moves.values()):
            raise Invalid("Say how far to move x, y or z, in mm.", field="x")
        return {"moves": moves, "speed": _number(args, "speed", 1, 300, default=50)}
    if kind == CommandKind.SET_TEMPERATURE:
        heater = args.get("heater")
        if not isinstance(heater, str) or heater not in ("bed", "chamber", *(f"tool{n}" for n in range(10))):
            raise Invalid("heater: bed, chamber, tool0, tool1 ...", field="heater")
        return {"heater": heater, "target": _number(args, "target", 0, console.heater_limit(heater, machine))}
    if kind == CommandKind.GCODE:
        lines = args.get("lines")
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise Invalid("lines: a list of G-code lines.", field="lines")
        reason = console.refusal(lines, machine)
        if reason:
            raise Invalid(reason, field="lines")
        return {"lines": lines}
    return {}


def _number(args: dict[str, Any], name: str, low: float, high: float, default: float | None = None) -> float:
    value = args.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Invalid(f"{name} must be a number between {low:g} and {high:g}.", field=name)
    return float(value)


def _queue(
    printer: Printer,
    kind: str,
    args: dict[str, Any],
    *,
    by: User | None,
    print_id: UUID | None,
    ttl: float,
    status: str = CommandStatus.QUEUED,
) -> Command:
    now = database_now()
    command = Command.objects.create(
        printer=printer,
        kind=kind,
        args=args,
        by=by,
        print_id=print_id,
        status=status,
        created_at=now,
        expires_at=now + timedelta(seconds=ttl),
    )
    log.info("command", kind=kind, printer=printer.name, command=str(command.pk), by=by.username if by else None)
    services.wake_bridges(printer.pk)
    return command


def queue_start(printer: Printer, print_id: UUID, remote_path: str) -> Command:
    """The one start of a print, made by dispatch in the transaction that commits `starting` and uses the bed."""
    bed = Printer.objects.values_list("bed", flat=True).get(pk=printer.pk)
    args = {"path": remote_path, "bed": bed}
    return _queue(printer, CommandKind.START, args, by=None, print_id=print_id, ttl=START_TTL)


def may_start(command: Command, fence: int) -> bool:
    """The last look before a start is sent: the lease is still ours, and nothing has come upon the bed since dispatch
    used it."""
    ours = Lease.objects.filter(printer=command.printer_id, fence=fence, expires_at__gt=Now())
    return ours.filter(printer__bed=command.args["bed"]).exists()


def database_now() -> Any:
    """The one clock for leases, expiry and ages: the database's."""
    return Lease.objects.annotate(now=Now()).values_list("now", flat=True).first() or timezone.now()


def _emergency_stop(printer: Printer, by: User | None) -> Command:
    """At once and inline: it must not wait behind anything. Whatever was said of the bed no longer counts."""
    services.soil_bed(printer.pk, "emergency stop")
    sent = CommandStatus.SENT  # from the beginning: no bridge may take it
    command = _queue(printer, CommandKind.EMERGENCY_STOP, {}, by=by, print_id=None, ttl=COMMAND_TTL, status=sent)
    driver = services.open_driver(printer)
    try:
        driver.emergency_stop()
        end_command(command.pk, CommandStatus.DONE, "The printer took the emergency stop.")
    except DriverError as error:
        status = CommandStatus.FAILED if isinstance(error, Unreachable) else CommandStatus.UNCLEAR
        end_command(command.pk, status, f"{error.message} Go to the machine and switch it off.")
    finally:
        driver.close()
    command.refresh_from_db()
    return command


@transaction.atomic
def claim_command(command_id: UUID, holder: str, fence: int) -> float | None:
    """Commit that this command is being sent by this bridge. The seconds left in which it may be sent, or None when it
    must not be: too old, taken, or the lease is no longer ours. One UPDATE decides. What may put plastic on the bed
    makes it not clear in the same transaction."""
    ours = Lease.objects.filter(holder=holder, fence=fence, expires_at__gt=Now()).values("printer")
    claimed = Command.objects.filter(
        pk=command_id, status=CommandStatus.QUEUED, expires_at__gt=Now(), printer__in=ours
    ).update(status=CommandStatus.SENT, fence=fence)
    if not claimed:
        return None
    command = Command.objects.annotate(now=Now()).get(pk=command_id)
    if command.kind == CommandKind.GCODE and console.may_extrude(command.args["lines"]):
        services.soil_bed(command.printer_id, "filament was moved from the console")
    return float((command.expires_at - command.now).total_seconds())


def end_command(command_id: UUID, status: str, message: str = "") -> bool:
    """The outcome of a command, once. False when it had one already."""
    ended = Command.objects.filter(pk=command_id, status__in=COMMAND_OPEN).update(
        status=status, message=message[:500], ended_at=Now()
    )
    if not ended:
        return False
    command = Command.objects.get(pk=command_id)
    log.info("command_ended", kind=command.kind, command=str(command_id), status=status, message=message)
    if command.kind == CommandKind.START:
        start_ended.send(sender=Command, command=command)
    return True


def expire_commands() -> None:
    """What nobody sent in time is never sent; what was sent and never answered for a minute is unclear."""
    for command in Command.objects.filter(status=CommandStatus.QUEUED, expires_at__lt=Now()):
        _expire(command)
    for pk in Command.objects.filter(
        status=CommandStatus.SENT, expires_at__lt=Now() - timedelta(seconds=60)
    ).values_list("pk", flat=True):
        end_command(pk, CommandStatus.UNCLEAR, "It was sent, and nobody knows what became of it.")


def _expire(command: Command) -> None:
    expired = Command.objects.filter(pk=command.pk, status=CommandStatus.QUEUED, expires_at__lt=Now()).update(
        status=CommandStatus.EXPIRED, message="Not sent in time: nothing listens to this printer now.", ended_at=Now()
    )
    if expired and command.kind == CommandKind.START:
        command.refresh_from_db()
        start_ended.send(sender=Command, command=command)
