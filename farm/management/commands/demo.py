"""``manage.py demo``: fill a farm with people, printers and a first job, so that there is something to see.

`manage.py up --demo` starts the simulated printers and then calls this. Twice is harmless: what is there stays, beds
are cleared and a new job is submitted if none is under way.
"""

from __future__ import annotations

import json
import math
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management.base import BaseCommand, CommandParser
from numpy.typing import NDArray

from farm import env
from farm.errors import FarmError
from farm.models import User
from jobs import services as jobs
from jobs.models import Job, JobEvent, Print
from jobs.states import JOB_TERMINAL, PRINT_LIVE, PRINT_STARTED, PrintStatus
from printers import services as printers
from printers.models import Grant, Pool, Printer, Role
from slicing.models import Model3D
from slicing.services import accept_model

MODEL_NAME = "helical-gear.stl"
#: name, full name, what they may do
PEOPLE = (
    ("admin", "Ada", "runs everything"),
    ("olivia", "Olivia", "operates the printers"),
    ("sam", "Sam", "prints"),
    ("tina", "Tina", "prints"),
)
#: s; longer than any part of the way to a printing printer should take
PATIENCE = 90


class Command(BaseCommand):
    help = "Adds demo people, the printers described on stdin (JSON), and a job on its way to one of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the farm is, to be shown")

    def handle(self, *args: Any, **options: Any) -> None:
        password = env.secret("FARM_DEMO_PASSWORD", make=f"plate-{secrets.randbelow(10**6):06}")
        people = add_people(password)
        added = add_printers(json.load(sys.stdin), by=people["admin"])
        add_grants(added, people)
        make_room(added, people, self.stdout.write)
        job = submit_a_job(people["sam"])
        follow(job, self.stdout.write)
        self.stdout.write(box(welcome(options["url"], password, job)))


def add_people(password: str) -> dict[str, User]:
    found = {}
    for username, full_name, _ in PEOPLE:
        user, is_new = User.objects.get_or_create(username=username, defaults={"first_name": full_name})
        if is_new:
            user.is_staff = user.is_superuser = username == "admin"
            user.set_password(password)
            user.save()
        found[username] = user
    return found


def add_printers(described: list[dict[str, Any]], by: User) -> list[Printer]:
    """Each with name, kind, url and api_key; those that are there get their present address."""
    result = []
    for facts in described:
        printer = Printer.objects.filter(name=facts["name"]).first()
        if printer is None:
            printer = printers.add_printer(by=by, place="Demo bench", bed_clear=True, **facts)
        elif printer.url != facts["url"]:
            abandon_prints(printer, by)
            printer = printers.change_printer(printer, url=facts["url"], api_key=facts["api_key"])
        result.append(printer)
    return result


def abandon_prints(printer: Printer, by: User) -> None:
    """Simulated printers forget their print when they end, so the farm can only be told."""
    for attempt in Print.objects.filter(printer=printer, status__in=PRINT_STARTED):
        jobs.decide(attempt, PrintStatus.CANCELLED, by)


def add_grants(added: list[Printer], people: dict[str, User]) -> None:
    pool, _ = Pool.objects.get_or_create(name="Demo lab")
    pool.printers.add(*added)
    students, _ = Group.objects.get_or_create(name="Students")
    students.user_set.add(people["sam"], people["tina"])
    Grant.objects.get_or_create(group=students, pool=pool, defaults={"role": Role.SUBMIT})
    Grant.objects.get_or_create(user=people["olivia"], pool=pool, defaults={"role": Role.OPERATE})


def make_room(added: list[Printer], people: dict[str, User], say: Callable[[str], Any]) -> None:
    """What an operator does in the morning: look after prints that nobody followed to their end, clear the beds."""
    for printer in added:
        if is_taken(printer) or not printers.bed_is_clear(printer):
            say(f"Clearing the bed of {printer} ...")
            wait_until(partial(cleared, printer, people))


def is_taken(printer: Printer) -> bool:
    return Print.objects.filter(printer=printer, status__in=PRINT_LIVE).exists()


def cleared(printer: Printer, people: dict[str, User]) -> bool:
    """The simulated printer has just been started: whatever the farm printed on it before is over, and the bridge is
    about to find that out."""
    for attempt in Print.objects.filter(printer=printer, status=PrintStatus.UNKNOWN):
        jobs.decide(attempt, PrintStatus.CANCELLED, people["admin"])
    printer.refresh_from_db()
    try:
        printers.clear_bed(printer, printer.bed, people["olivia"])
    except FarmError:  # not heard of yet, or its print has not ended yet
        return False
    return not is_taken(printer)


def submit_a_job(owner: User) -> Job:
    under_way = Job.objects.filter(owner=owner, model__name=MODEL_NAME).exclude(status__in=JOB_TERMINAL).first()
    if under_way is not None:
        return under_way
    model = Model3D.objects.filter(owner=owner, name=MODEL_NAME).first()
    if model is None:
        model = accept_model(owner, SimpleUploadedFile(MODEL_NAME, stl(helical_gear()), "model/stl"))
    return jobs.submit(owner, model=model)


def follow(job: Job, say: Callable[[str], Any]) -> None:
    """Say what becomes of it until it prints (or cannot)."""
    shown: set[int] = set()

    def it_prints() -> bool:
        for event in JobEvent.objects.filter(job=job).select_related("print__printer").order_by("pk"):
            if event.pk not in shown:
                shown.add(event.pk)
                say(f"{job.name}: {told(event)}")
        job.refresh_from_db()
        return where_it_prints(job) is not None or job.status in JOB_TERMINAL

    wait_until(it_prints)


def told(event: JobEvent) -> str:
    if event.print and event.print.printer:
        return f"{event.new} on {event.print.printer}"
    return f"{event.new}: {event.message}" if event.message else event.new


def where_it_prints(job: Job) -> Printer | None:
    attempt = Print.objects.filter(job=job, status__in=(PrintStatus.PRINTING, PrintStatus.PAUSED)).first()
    return attempt.printer if attempt else None


def wait_until(ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def welcome(url: str, password: str, job: Job) -> list[str]:
    printer = where_it_prints(job)
    news = f"{job.name} of Sam is printing on {printer} now." if printer else f"{job.name} of Sam: {job.status}."
    people = [f"{username:<10}{password:<16}{may}" for username, _, may in PEOPLE]
    return [f"Print Farm    {url}", "", *people, "", news, "Log in and watch it; Ctrl-C stops everything."]


def box(lines: list[str]) -> str:
    width = max(map(len, lines)) + 4
    inside = [f"|  {line:<{width - 2}}|" for line in lines]
    edge = f"+{'-' * width}+"
    return "\n".join(["", edge, *inside, edge, ""])


# -- the part
def helical_gear(teeth: int = 14, height: float = 6.0, twist: float = 14.0) -> NDArray[np.float32]:
    """A gear of 30 mm with a bore of 8 mm whose teeth wind upwards by ``twist`` degrees. (n, 3, 3), mm, closed."""
    steps = 24 * teeth
    angle = np.arange(steps) * (2 * math.pi / steps)
    flank = np.tanh(3 * np.sin(teeth * angle)) / np.tanh(3)  # a smooth tooth: flat tip, flat root, steep flank
    outline = (13.4 + 1.6 * flank)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    bore = 4.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    levels = [(ratio * height, math.radians(ratio * twist)) for ratio in np.linspace(0, 1, 9)]
    outer = [ring(outline, z, turn) for z, turn in levels]
    inner = [ring(bore, z, turn) for z, turn in levels]
    walls = [strip(outer[i], outer[i + 1]) for i in range(8)] + [strip(inner[i + 1], inner[i]) for i in range(8)]
    return np.concatenate([*walls, strip(outer[-1], inner[-1]), strip(inner[0], outer[0])]).astype(np.float32)


def ring(outline: NDArray[np.float64], z: float, turn: float) -> NDArray[np.float64]:
    """(n, 2) turned about the origin and lifted to ``z``: (n, 3)."""
    c, s = math.cos(turn), math.sin(turn)
    return np.column_stack([outline @ np.array([[c, s], [-s, c]]), np.full(len(outline), z)])


def strip(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """The band between two rings of n points: (2 n, 3, 3), seen from outside when ``low`` runs to the left."""
    low_next, high_next = np.roll(low, -1, axis=0), np.roll(high, -1, axis=0)
    return np.concatenate([np.stack([low, low_next, high_next], 1), np.stack([low, high_next, high], 1)])


def stl(triangles: NDArray[np.float32]) -> bytes:
    """Binary STL: 80 bytes of header, a count, then normal, three corners and two spare bytes for each facet."""
    facets = np.zeros(len(triangles), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("spare", "<u2")])
    facets["corners"] = triangles
    return b"Print Farm demo".ljust(80) + len(triangles).to_bytes(4, "little") + facets.tobytes()
