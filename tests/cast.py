"""People, printers and jobs for tests of doors: whoever enters one has a natural intruder here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from django.core.files.base import ContentFile
from django.test import Client
from django.utils import timezone

from farm.models import User
from jobs.models import Job, Print
from jobs.states import PRINT_LIVE, JobStatus, PrintStatus
from printers import services, telemetry
from printers.drivers.base import LiveJob, PrinterState, PrinterStatus, Temperature
from printers.models import Grant, Printer, Role
from slicing.models import Gcode, Model3D

KEY = "the-printers-own-api-key"


@dataclass
class Cast:
    """Sam and Tina print on Anvil, Olivia operates it, Ada is staff, Mallory may see nothing. Nobody but Ada sees
    Cellar, a second printer."""

    sam: User = field(default_factory=lambda: person("sam"))
    tina: User = field(default_factory=lambda: person("tina"))
    olivia: User = field(default_factory=lambda: person("olivia"))
    ada: User = field(default_factory=lambda: person("ada", is_staff=True))
    mallory: User = field(default_factory=lambda: person("mallory"))

    def __post_init__(self) -> None:
        self.anvil = printer("Anvil", by=self.ada)
        self.cellar = printer("Cellar", by=self.ada)
        for user, role in ((self.sam, Role.SUBMIT), (self.tina, Role.SUBMIT), (self.olivia, Role.OPERATE)):
            grant(user, self.anvil, role)


def person(name: str, **fields: Any) -> User:
    """Without a password, which would take half a second to make: see `as_`."""
    return User.objects.create_user(username=name, first_name=name.capitalize(), **fields)


def printer(name: str, by: User, **fields: Any) -> Printer:
    """Idle and heard of a moment ago; its bed is not clear unless ``bed_clear`` says so."""
    made = services.add_printer(
        by=by, name=name, kind="octoprint", url="http://127.0.0.1:9", api_key=KEY, place="Bench", **fields
    )
    says(made)
    return made


def grant(user: User, on: Printer, role: Role) -> None:
    Grant.objects.create(user=user, printer=on, role=role)


def says(
    printer: Printer, status: PrinterStatus = PrinterStatus.IDLE, message: str = "", job: LiveJob | None = None
) -> None:
    """The newest that the farm heard of it."""
    heat = {"tool0": Temperature(actual=209.6, target=210.0), "bed": Temperature(actual=60.2, target=60.0)}
    state = PrinterState(status=status, message=message, temperatures=heat, job=job)
    telemetry.forget(printer.pk)
    assert telemetry.put(printer.pk, 1, 1, state)


def falls_silent(printer: Printer, seconds: float = 0) -> None:
    """As if its last word were that long ago; long enough to be stale, if nothing is said."""
    seconds = seconds or telemetry.STALE_AFTER + 25
    client, key = telemetry.client(), f"farm:printer:{printer.pk}"
    client.hset(key, "at", str(float(client.hget(key, "at") or 0) - seconds))


def model(owner: User, name: str = "bracket.stl", size: tuple[float, float, float] = (40, 30, 20)) -> Model3D:
    """As if read from an upload."""
    row = Model3D(
        owner=owner, name=name, kind="stl", bytes=84, sha256="0" * 64, size_x=size[0], size_y=size[1], size_z=size[2],
        triangles=12, volume_mm3=24_000.0, watertight=True,
    )  # fmt: skip
    row.file.save(name, ContentFile(b"solid"))
    return row


def job(owner: User, status: JobStatus = JobStatus.READY, **fields: Any) -> Job:
    """In any status, without the way there."""
    made_of = fields.pop("model", None) or model(owner, fields.pop("name", "bracket.stl"))
    row = Job.objects.create(owner=owner, name=made_of.name, model=made_of, status=status, **fields)
    row.events.create(new=JobStatus.PREPARING, cause="submitted", actor=owner)
    return row


def gcode(on: Printer, name: str = "bracket.gcode") -> Gcode:
    row = Gcode(
        name=name, bytes=4, sha256="0" * 64, profile=on.profile, profile_revision=on.profile.revision, time_s=3900.0,
        filament_mm=1500.0, filament_g=4.5, layers=100,
    )  # fmt: skip
    row.file.save(name, ContentFile(b"G28\n"))
    return row


def attempt(of: Job, on: Printer, status: PrintStatus = PrintStatus.PRINTING, **fields: Any) -> Print:
    """``of`` on a printer, which says so too while it is live."""
    if status in PRINT_LIVE and of.status != JobStatus.ACTIVE:
        Job.objects.filter(pk=of.pk).update(status=JobStatus.ACTIVE)
        of.refresh_from_db()
    name = f"{uuid4().hex}.gcode"
    row = Print.objects.create(
        job=of, printer=on, printer_name=on.name, status=status, remote_name=name, remote_path=name,
        started_at=timezone.now(), **fields,
    )  # fmt: skip
    if status == PrintStatus.PRINTING:
        live = LiveJob(file=row.remote_path, progress=0.421, elapsed_s=600.0, left_s=2700.0)
        says(on, PrinterStatus.PRINTING, job=live)
    return row


def as_(user: User) -> Client:
    """A browser in which this person is logged in."""
    client = Client()
    client.force_login(user)
    return client


def htmx(target: str = "") -> dict[str, str]:
    """The headers of a request for a part of a page."""
    return {"HX-Request": "true", **({"HX-Target": target} if target else {})}
