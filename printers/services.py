"""Everything that changes a printer's row, its bed or its lease. What is asked of printers: see printers.commands."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, ProtectedError, Q
from django.db.models.functions import Now

from farm.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from farm.events import AccessTouched, PrinterTouched, publish
from farm.models import User
from printers import access, telemetry
from printers.credentials import seal, unseal
from printers.drivers import DRIVERS, driver_for
from printers.drivers.base import (
    DriverError,
    Identity,
    Missing,
    PrinterDriver,
    PrinterState,
    Refused,
    Unauthorised,
    Unreachable,
    Unsupported,
)
from printers.drivers.http import allowed_address
from printers.models import BedClear, CameraSource, Lease, Printer, Role
from printers.signals import occupants, printer_states_changed
from slicing.models import PrinterProfile
from slicing.profiles import default_profile

log = structlog.get_logger(__name__)

# -- printers
#: what an address of a printer needs: no escapes, no brackets but those of IPv6
_PLAIN_URL = re.compile(r"[a-z]+://[A-Za-z0-9._~:@?#\[\]-]*(/[A-Za-z0-9._~/?#-]*)?", re.ASCII | re.IGNORECASE)


def check_url(url: str) -> str:
    """The URL as it is stored. Raises Invalid with a sentence when it must not be used."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        port = 0
    if port == 0 or not _PLAIN_URL.fullmatch(url.strip()) or ".." in url:
        raise Invalid("This is not an address like http://192.168.1.20:5000.", field="url")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("A printer's address starts with http:// or https:// and names a host.", field="url")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid("A printer's address has no user name, password, query or fragment in it.", field="url")
    if not is_allowed(parts.hostname, or_unknown=True):
        raise Invalid(
            f"{parts.hostname} is not in the networks where printers may be (FARM_PRINTER_NETWORKS).", field="url"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


#: what an address of a camera needs beyond that
_PLAIN_CAMERA_URL = re.compile(
    r"https?://[A-Za-z0-9._~:\[\]-]+(/[A-Za-z0-9._~/?&=%+,;:!$()*-]*)?", re.ASCII | re.IGNORECASE
)


def check_camera_url(url: str, field: str) -> str:
    """The URL as it is stored, empty for none. Raises Invalid with a sentence when it must not be used."""
    text = url.strip()
    try:
        parts = urlsplit(text)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if text and not (usable and _PLAIN_CAMERA_URL.fullmatch(text)):
        raise Invalid("A camera's address looks like http://192.168.1.20:8080/?action=snapshot.", field=field)
    if text and not is_allowed(parts.hostname or "", or_unknown=True):
        raise Invalid(
            f"{parts.hostname} is not in the networks where printers may be (FARM_PRINTER_NETWORKS).", field=field
        )
    return text


def check_camera(printer: Printer, fields: dict[str, Any]) -> None:
    """Check and tidy what ``fields`` say of the printer's camera. Raises Invalid."""
    addresses = ("camera_snapshot_url", "camera_stream_url")
    for name in addresses:
        if name in fields:
            fields[name] = check_camera_url(fields[name], name)
    own = fields.get("camera", printer.camera) == CameraSource.OWN
    if own and not any(fields.get(name, getattr(printer, name)) for name in addresses):
        raise Invalid("Give the address of the camera's pictures, or of its stream.", field="camera_snapshot_url")


def is_allowed(host: str, or_unknown: bool = False) -> bool:
    """Whether ``host`` resolves into the configured networks; ``or_unknown``: or does not resolve now (it is checked
    again at every connection)."""
    try:
        return address(host) is not None
    except Unreachable:
        return or_unknown


def address(host: str) -> str | None:
    """The IP address to connect to, or None if that host is not allowed. Raises Unreachable if it has none."""
    return allowed_address(host, settings.FARM_PRINTER_NETWORKS)


@transaction.atomic
def add_printer(
    *,
    by: User,
    name: str,
    kind: str,
    url: str,
    api_key: str = "",
    profile: PrinterProfile | None = None,
    bed_clear: bool = False,
    **fields: Any,
) -> Printer:
    """A new printer; its bed is not clear unless ``bed_clear`` says so. Raises Invalid, Conflict (name taken)."""
    if kind not in DRIVERS:
        raise Invalid(f"Unknown kind {kind!r}. One of: {', '.join(DRIVERS)}.", field="kind")
    check_camera(Printer(), fields)
    printer = Printer(
        name=name,
        kind=kind,
        url=check_url(url),
        sealed_key=seal(api_key),
        profile=profile or default_profile(),
        **fields,
    )
    _save(printer, force_insert=True)
    Lease.objects.create(printer=printer)
    if bed_clear:
        BedClear.objects.create(printer=printer, n=printer.bed, by=by, reason="said so when adding the printer")
    publish(AccessTouched())
    return printer


def _save(printer: Printer, **how: Any) -> None:
    """Raises Conflict: names are unique."""
    if Printer.objects.filter(name=printer.name).exclude(pk=printer.pk).exists():
        raise Conflict(f"There is a printer called {printer.name} already.", field="name")
    try:
        with transaction.atomic():
            printer.save(**how)
    except IntegrityError:
        raise Conflict(f"There is a printer called {printer.name} already.", field="name") from None


def check_key_given(printer: Printer, url: str, given: bool) -> None:
    """A stored key goes to the server it was given for, and to no other: nobody reads it by changing the address.

    Raises Invalid when ``url`` is another server's and no key is given with it.
    """
    if printer.sealed_key and not given and urlsplit(url)[:2] != urlsplit(printer.url)[:2]:
        raise Invalid("Give the key again with a new address: it is not sent to another server.", field="api_key")


@transaction.atomic
def change_printer(printer: Printer, **fields: Any) -> Printer:
    """Change settings. Another machine or address under the same row may have plastic on its bed."""
    if "url" in fields:
        fields["url"] = check_url(fields["url"])
        check_key_given(printer, fields["url"], "api_key" in fields)
    if "api_key" in fields:
        fields["sealed_key"] = seal(fields.pop("api_key"))
    check_camera(printer, fields)
    moved = any(fields.get(key, getattr(printer, key)) != getattr(printer, key) for key in ("url", "kind"))
    if moved and occupants([printer.pk]):
        raise Conflict("A print is on this printer: wait for its end before giving it another address.")
    for key, value in fields.items():
        setattr(printer, key, value)
    _save(printer, update_fields=list(fields))
    if moved or "sealed_key" in fields or "enabled" in fields:
        # the bridge lets go and connects anew with what is true now
        Lease.objects.filter(printer=printer).update(holder="", expires_at=None)
        wake_bridges(printer.pk)
    if moved:
        Printer.objects.filter(pk=printer.pk).update(marker=None)
        soil_bed(printer.pk, "another machine")
        transaction.on_commit(lambda: telemetry.forget(printer.pk))  # what the old one said
    publish(PrinterTouched(printer_id=str(printer.pk)))
    printer_changed_settings(printer.pk)
    return printer


def printer_changed_settings(printer_id: UUID) -> None:
    """Those who wait for a printer may get this one now."""
    snapshot = telemetry.read([printer_id]).get(printer_id)
    if snapshot:
        _tell_above(printer_id, snapshot.state, occupied=[printer_id])


def _tell_above(printer_id: UUID, state: PrinterState, occupied: list[UUID]) -> None:
    told: dict[str, Any] = {"states": {printer_id: state}, "occupied": occupied}
    transaction.on_commit(lambda: printer_states_changed.send(sender=Printer, **told))


@transaction.atomic
def remove_printer(printer: Printer) -> None:
    """Raises Conflict while the farm prints on it. Its history stays."""
    if occupants([printer.pk]):
        raise Conflict("A print is on this printer. Cancel it or wait for its end before you remove the printer.")
    printer_id = printer.pk
    try:
        printer.delete()
    except ProtectedError as error:
        raise Conflict(
            "Jobs in the queue ask for this printer. Cancel them, or switch the printer off instead."
        ) from error
    transaction.on_commit(lambda: telemetry.forget(printer_id))
    publish(AccessTouched())


def open_driver(printer: Printer) -> PrinterDriver:
    """A driver with this printer's address and key. Close it after use."""
    return driver_for(printer.kind, printer.url, unseal(printer.sealed_key), check_address=address)


def try_connection(printer: Printer) -> Identity:
    """Can we reach it, is the key right, what is it. Raises Unavailable or Invalid with what to do."""
    driver = open_driver(printer)
    try:
        return driver.identify()
    except Unreachable as error:
        raise Unavailable(
            f"{printer.name} does not answer at {printer.url}: {error.message} Is it on, is the address right?",
            code="unreachable",
        ) from error
    except Unauthorised as error:
        raise Invalid(
            f"{printer.name} does not accept the API key: {error.message} Copy the key again from its own settings.",
            code="wrong_key",
        ) from error
    except DriverError as error:
        raise Unavailable(
            f"What answers at {printer.url} does not look like {printer.get_kind_display()}: {error.message}",
            code="not_understood",
        ) from error
    finally:
        driver.close()


def asking(printer: Printer, what: Any) -> Any:
    """``what(driver)``, one exchange with the printer inline, its faults as answers for people."""
    driver = open_driver(printer)
    try:
        return what(driver)
    except Missing as error:
        raise NotFound(error.message) from error
    except Unsupported as error:
        raise Invalid(f"{printer.name} cannot do that: {error.message}", code="unsupported") from error
    except Refused as error:
        raise Conflict(f"{printer.name} refused: {error.message}", code="refused") from error
    except DriverError as error:
        raise Unavailable(f"{printer.name} did not answer as it should: {error.message}", code="printer") from error
    finally:
        driver.close()


# -- the bed
def bed_is_clear(printer: Printer) -> bool:
    """A clear for the present bed exists and no print has used it."""
    return BedClear.objects.filter(printer=printer, n=printer.bed, print__isnull=True).exists()


def clear_beds(printer_ids: Any) -> dict[UUID, BedClear]:
    """The unused clear of each printer's present bed, in one query."""
    clears = BedClear.objects.filter(printer__in=printer_ids, n=F("printer__bed"), print__isnull=True)
    return {clear.printer_id: clear for clear in clears}


@transaction.atomic
def clear_bed(printer: Printer, n: int, by: User) -> None:
    """Somebody looked: bed ``n`` is empty. Twice is harmless; raises Conflict when ``n`` is not the present bed or
    the printer is not idle."""
    printer.refresh_from_db(fields=["bed"])
    if n != printer.bed:
        raise Conflict("The bed has changed since you looked. Look again.", code="bed_changed", bed=printer.bed)
    if BedClear.objects.filter(printer=printer, n=n).exists():
        return
    snapshot = telemetry.read([printer.pk]).get(printer.pk)
    if occupants([printer.pk]) or snapshot is None or not snapshot.idle:
        raise Conflict("The printer is not idle: its bed can be cleared when it is.", code="not_idle")
    try:
        with transaction.atomic():
            BedClear.objects.create(printer=printer, n=n, by=by)
    except IntegrityError:
        return  # somebody said the same at the same moment
    # the bed may have been soiled between our look and this commit: then this clear is for the old bed, and useless
    log.info("bed_cleared", printer=printer.name, bed=n, by=by.username)
    publish(PrinterTouched(printer_id=str(printer.pk)))
    _tell_above(printer.pk, snapshot.state, occupied=[])


def soil_bed(printer_id: UUID, why: str) -> None:
    """There may be plastic on the bed: whatever was said of it before no longer counts."""
    Printer.objects.filter(pk=printer_id).update(bed=F("bed") + 1, bed_since=Now())
    log.info("bed_not_clear", printer=str(printer_id), why=why)
    publish(PrinterTouched(printer_id=str(printer_id)))


def use_bed(printer_id: UUID, n: int) -> bool:
    """Take bed ``n`` for a start: False when it is no longer the present one."""
    taken = Printer.objects.filter(pk=printer_id, bed=n).update(bed=F("bed") + 1)
    publish(PrinterTouched(printer_id=str(printer_id)))
    return bool(taken)


@transaction.atomic
def give_bed_back(printer_id: UUID, n: int, why: str, *, used: bool) -> None:
    """Bed ``n`` was claimed for a print (``used``: and taken by :func:`use_bed`) and provably nothing was printed on
    it: the bed after it is clear, unless it was soiled since."""
    untouched = Printer.objects.filter(pk=printer_id, bed=n + 1).exists() if used else use_bed(printer_id, n)
    if untouched:
        BedClear.objects.get_or_create(printer_id=printer_id, n=n + 1, defaults={"by": None, "reason": why})
        publish(PrinterTouched(printer_id=str(printer_id)))


# -- leases (called by bridges; every time is the database's)
#: after a bridge died, others take its printers this much later
LEASE_TTL = timedelta(seconds=6)


def take_leases(holder: str, most: int) -> list[tuple[Printer, int]]:
    """Printers nobody holds: (printer, fence), at most ``most``. A few statements for any number of printers."""
    free = Q(expires_at=None) | Q(expires_at__lt=Now())
    found = Lease.objects.filter(free, printer__enabled=True).order_by("printer__name").values_list("pk", flat=True)
    wanted = list(found[: max(0, most)])
    if not wanted:
        return []
    with transaction.atomic():
        # of bridges that look at the same moment, one gets each: they neither wait for nor lock out each other
        some = Lease.objects.select_for_update(skip_locked=True).filter(free, pk__in=wanted)
        wanted = list(some.values_list("pk", flat=True))
        Lease.objects.filter(free, pk__in=wanted).update(
            holder=holder, fence=F("fence") + 1, expires_at=Now() + LEASE_TTL
        )
    taken = Lease.objects.filter(pk__in=wanted, holder=holder).select_related("printer__profile")
    return [(lease.printer, lease.fence) for lease in taken]


def renew_leases(holder: str) -> dict[UUID, int]:
    """Renew all of a bridge's leases in one UPDATE; what it holds now, {printer id: fence}."""
    held = Lease.objects.filter(holder=holder, expires_at__gt=Now(), printer__enabled=True)
    held.update(expires_at=Now() + LEASE_TTL)
    return dict(held.values_list("printer_id", "fence"))


def drop_leases(holder: str, printer_ids: list[UUID] | None = None) -> None:
    """Give back; others may take them at once."""
    mine = Lease.objects.filter(holder=holder)
    if printer_ids is not None:
        mine = mine.filter(printer__in=printer_ids)
    mine.update(holder="", expires_at=None)


def wake_bridges(printer_id: UUID) -> None:
    """Tell the bridges that something is queued, after commit. They look every second anyway."""

    def wake() -> None:
        try:
            telemetry.client().publish("farm:wake", str(printer_id))
        except Exception as error:  # noqa: BLE001 - any fault of Redis: the next tick finds the command
            log.warning("bridges_not_woken", error=str(error))

    transaction.on_commit(wake)


def require_submit(user: User, printer: Printer) -> None:
    """Raises Forbidden unless this person may print there."""
    if access.role_on(user, printer) < Role.SUBMIT:
        raise Forbidden(f"You may not print on {printer.name}. Ask the people who run the lab.")
