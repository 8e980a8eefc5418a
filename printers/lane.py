"""One printer's commands, in order, one at a time: send, then wait until the printer itself shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog

from printers import answers, commands, services
from printers.drivers.base import (
    DriverError,
    PrinterDriver,
    PrinterState,
    PrinterStatus,
    Refused,
    Unauthorised,
    Unclear,
    Unreachable,
    Unsupported,
    refuse_while_printing,
)
from printers.models import Command, CommandKind, CommandStatus
from printers.signals import occupants
from printers.tenure import boot_time

if TYPE_CHECKING:
    from printers.bridge import PrinterTask

log = structlog.get_logger(__name__)

#: s until the printer's state must show what was asked for. A start may first home and heat: it shows at once anyway.
CONFIRM_WITHIN = 30.0
#: s; if no answer came: its state was watched all that time already
CONFIRM_LATE_WITHIN = 5.0


class NotSent(Exception):
    """It must no longer be sent, for this reason; nothing was."""


def run(task: PrinterTask, holder: str) -> None:
    """Everything that is queued for this printer now."""
    driver = services.open_driver(task.printer)
    try:
        while not task.stop.is_set():
            command = (
                Command.objects.filter(printer=task.printer, status=CommandStatus.QUEUED).order_by("created_at").first()
            )
            if command is None or not _carry_out(task, driver, command, holder):
                return
    finally:
        driver.close()


def _carry_out(task: PrinterTask, driver: PrinterDriver, command: Command, holder: str) -> bool:
    """Send one command and see it through. False when it could not be claimed (expired, or the lease is lost)."""
    asked_at = boot_time()
    left = commands.claim_command(command.pk, holder, task.fence)
    if left is None:
        commands.expire_commands()
        return False
    status, message = _send(task, driver, command, deadline=asked_at + left)
    commands.end_command(command.pk, status, message)
    return True


def _send(task: PrinterTask, driver: PrinterDriver, command: Command, deadline: float) -> tuple[str, str]:
    if command.kind in commands.FOR_A_PRINT:
        live = occupants([command.printer_id]).get(command.printer_id)
        if live is None or live.print_id != command.print_id:
            return CommandStatus.REFUSED, "That print is no longer on this printer."
    try:
        _call(task, driver, command, deadline)
    except NotSent as reason:
        return CommandStatus.EXPIRED, f"Not sent: {reason}"
    except (Refused, Unsupported, Unauthorised) as error:
        return CommandStatus.REFUSED, error.message
    except Unreachable as error:
        return CommandStatus.FAILED, error.message
    except Unclear as error:
        # it may have been carried out all the same: only the printer's own state can tell
        return _confirm(task, command, f"No answer came: {error.message}", answered=False)
    except DriverError as error:
        return CommandStatus.UNCLEAR, error.message
    return _confirm(task, command, "The printer accepted it and did not show it.", answered=True)


def _call(task: PrinterTask, driver: PrinterDriver, command: Command, deadline: float) -> None:
    args = command.args
    calls: dict[str, Callable[[], Any]] = {
        CommandKind.START: lambda: _start(task, driver, command, deadline),
        CommandKind.PAUSE: driver.pause,
        CommandKind.RESUME: driver.resume,
        CommandKind.CANCEL: driver.cancel,
        CommandKind.HOME: lambda: driver.home(args["axes"]),
        CommandKind.JOG: lambda: driver.jog(args["moves"], args["speed"]),
        CommandKind.SET_TEMPERATURE: lambda: driver.set_temperature(args["heater"], args["target"]),
        CommandKind.GCODE: lambda: _gcode(driver, command),
        CommandKind.FIRMWARE_RESTART: driver.firmware_restart,
    }
    _may_send(task, deadline)
    calls[command.kind]()


def _may_send(task: PrinterTask, deadline: float) -> None:
    if boot_time() >= deadline:
        raise NotSent("it came too late.")
    if task.tenure.over or task.stop.is_set():
        raise NotSent("somebody else may have the printer now.")


def _start(task: PrinterTask, driver: PrinterDriver, command: Command, deadline: float) -> None:
    """Only while we observe the printer: else something may have come upon its bed of which we do not know yet."""

    def last_look() -> None:
        if not task.observed.is_set():
            raise NotSent("nobody was listening to the printer.")
        if not commands.may_start(command, task.fence):
            raise NotSent("the bed is no longer clear, or somebody else has the printer now.")
        _may_send(task, deadline)

    task.observed.wait(max(0.0, deadline - boot_time()))
    driver.start(command.args["path"], last_look)


def _gcode(driver: PrinterDriver, command: Command) -> None:
    """Servers take lines in the middle of a print, too. Since it was asked for, somebody may have begun one."""
    refuse_while_printing(driver.read_state())
    driver.gcode(command.args["lines"], answers.Recording(command.pk))


def _confirm(task: PrinterTask, command: Command, otherwise: str, *, answered: bool) -> tuple[str, str]:
    """Done when the printer's own state shows it, never by an HTTP 200."""
    shown = _shows(command)
    if shown is None:
        return (CommandStatus.DONE, "The printer took it.") if answered else (CommandStatus.UNCLEAR, otherwise)
    if task.wait_for(shown, CONFIRM_WITHIN if answered else CONFIRM_LATE_WITHIN):
        return CommandStatus.DONE, ""
    return CommandStatus.UNCLEAR, otherwise


def _shows(command: Command) -> Callable[[PrinterState], bool] | None:
    """What the printer's state must say; None where no state says it (a move)."""
    path, args = command.args.get("path"), command.args
    shows: dict[str, Callable[[PrinterState], bool]] = {
        CommandKind.START: lambda s: (
            (s.job is not None and s.working and s.job.file == path) or (s.ended is not None and s.ended.file == path)
        ),
        CommandKind.PAUSE: lambda s: s.status == PrinterStatus.PAUSED or not s.working,
        CommandKind.RESUME: lambda s: s.status == PrinterStatus.PRINTING or not s.working,
        CommandKind.CANCEL: lambda s: not s.working,
        CommandKind.SET_TEMPERATURE: lambda s: (
            (t := s.temperatures.get(args["heater"])) is not None and abs(t.target - args["target"]) < 1
        ),
        CommandKind.FIRMWARE_RESTART: lambda s: s.status == PrinterStatus.IDLE,
    }
    return shows.get(command.kind)
