"""Takes the product's pictures anew: ``make screenshots``. Needs Chromium and three minutes.

A farm of its own in a temporary folder, with simulated printers brought into the states that a lab has at noon.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from tests import shapes
from tests.flows.client import Client
from tests.flows.farm import RunningFarm
from tests.peers import SimulatorPeer

DOCS = Path(__file__).resolve().parent
PASSWORD = "noon-in-the-lab"  # noqa: S105 - of a farm that lives for two minutes
PEOPLE = """
from farm.models import User
from printers.models import Grant, Pool
lab = Pool.objects.create(name="Lab")
User.objects.create_superuser("ada", "", {password!r}, first_name="Ada")
for name, role in (("olivia", 3), ("sam", 2), ("tina", 2)):
    user = User.objects.create_user(name, "", {password!r}, first_name=name.capitalize())
    Grant.objects.create(user=user, pool=lab, role=role)
"""
INTO_THE_POOL = "from printers.models import *; Pool.objects.get(name='Lab').printers.set(Printer.objects.all())"
#: simulated hours are seconds; a history says what they would have been
AS_IN_LIFE = """
from jobs.models import Print
for done in Print.objects.filter(status="completed").select_related("gcode"):
    done.duration_s = done.gcode.time_s
    done.save()
"""
#: name, server, where it stands
PRINTERS = (
    ("Anvil", "octoprint", "Window, left"),
    ("Bellows", "moonraker", "Window, right"),
    ("Crucible", "moonraker", "Long bench"),
    ("Drawbar", "octoprint", "Long bench"),
    ("Ember", "moonraker", "Long bench"),
    ("Forge", "octoprint", "Back room"),
)
#: what people print
PARTS = {
    "sun-gear.stl": shapes.gear(24, 30, 12, bore=5),
    "pinion.stl": shapes.gear(9, 10, 24),
    "clock-wheel.stl": shapes.gear(60, 40, 4, bore=4),
    "vase.stl": shapes.cone(25, 38, 80),
    "bearing-race.stl": shapes.ring(20, 15, 10),
    "cable-comb.stl": shapes.comb(8, 4, 5, 60, 12),
    "moon.stl": shapes.moved(shapes.bumpy_sphere(24, 48, 96), z=24),
}


@dataclass
class Machine:
    """A simulated printer and its row in the farm."""

    id: str
    peer: SimulatorPeer

    def run(self, speed: float) -> None:
        """So many times faster than a real one."""
        self.peer.fault("speed", speed=speed)


class Lab:
    """A running farm with its people and machines."""

    def __init__(self, folder: Path, stop: ExitStack) -> None:
        self.folder = folder
        self.farm = RunningFarm(folder / "farm")
        stop.callback(self.farm.stop)
        self.farm.manage("shell", "-c", PEOPLE.format(password=PASSWORD))
        people = [Client(self.farm.url, name, PASSWORD) for name in ("ada", "olivia", "sam", "tina")]
        self.ada, self.olivia, self.sam, self.tina = people
        self.machines = {
            name: self._machine(name, place, stop.enter_context(SimulatorPeer(kind))) for name, kind, place in PRINTERS
        }
        self.farm.manage("shell", "-c", INTO_THE_POOL)

    def _machine(self, name: str, place: str, peer: SimulatorPeer) -> Machine:
        facts = {"name": name, "place": place, "kind": peer.kind, "url": peer.url, "api_key": peer.api_key}
        return Machine(self.ada.post("printers/", **facts, bed_clear=True)["id"], peer)

    def submit(self, who: Client, part: str, on: str, **wanted: Any) -> str:
        """The job's id."""
        return who.submit(self.upload(who, part), self.machines[on].id, **{"settings": {}, **wanted})

    def upload(self, who: Client, part: str) -> str:
        """The model's id."""
        return who.upload_shape(self.folder, PARTS[part], part)

    def prints(self, who: Client, part: str, on: str, until: float) -> str:
        """A job that has come so far (0..1) and goes on as slowly as in life."""
        machine = self.machines[on]
        job = self.submit(who, part, on)
        machine.run(300)
        self.ada.wait_for_state(machine.id, lambda now: now["job"] and now["job"]["progress"] >= until, "prints")
        machine.run(1)
        return job

    def completes(self, who: Client, part: str, on: str) -> None:
        job = self.submit(who, part, on)
        self.machines[on].run(600)
        who.wait_for_job(job, "completed")
        self.machines[on].run(1)


def noon(lab: Lab) -> str:
    """Something of everything; the id of the job to be shown."""
    for part in ("bearing-race.stl", "cable-comb.stl", "pinion.stl"):
        lab.completes(lab.sam, part, "Ember")
        lab.olivia.clear_bed(lab.machines["Ember"].id)
    lab.completes(lab.tina, "clock-wheel.stl", "Bellows")
    shown = lab.prints(lab.sam, "sun-gear.stl", "Anvil", until=0.42)
    lab.prints(lab.tina, "vase.stl", "Crucible", until=0.76)
    lab.prints(lab.sam, "moon.stl", "Drawbar", until=0.13)
    drawbar, forge = lab.machines["Drawbar"].id, lab.machines["Forge"].id
    lab.olivia.done(drawbar, "pause", print=lab.olivia.state(drawbar)["job"]["print"])
    lab.ada.call("PATCH", f"printers/{forge}/", json={"maintenance": "New nozzle on its way"})
    lab.submit(lab.tina, "bearing-race.stl", "Bellows")
    lab.submit(lab.sam, "pinion.stl", "Anvil", copies=2)
    lab.submit(lab.tina, "cable-comb.stl", "Forge")
    lab.submit(lab.ada, "vase.stl", "Anvil", hold=True)
    lab.farm.manage("shell", "-c", AS_IN_LIFE)
    return shown


@contextmanager
def running_lab() -> Iterator[tuple[Lab, str]]:
    """A lab at noon, and the job to be shown."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stop:
        lab = Lab(Path(folder), stop)
        yield lab, noon(lab)


@dataclass(frozen=True)
class Shot:
    """One picture: who looks at what, on which screen."""

    file: str
    who: str
    path: str
    width: int
    height: int
    dark: bool = False
    #: pixels of the picture to one of the page
    scale: float = 1
    #: must be there before it is taken
    wait_for: str = "main"


def shots(lab: Lab, job: str, model: str, tv: str) -> list[Shot]:
    anvil = f"/printers/{lab.machines['Anvil'].id}/"
    drawn = "canvas"
    return [
        Shot("wall.png", "olivia", "/", 1280, 720),
        Shot("wall-wide.png", "olivia", "/", 1920, 660, dark=True),
        Shot("phone.png", "olivia", "/", 360, 760, dark=True, scale=2),
        Shot("printer.png", "olivia", anvil, 1280, 900),
        Shot("submit.png", "sam", f"/submit/{model}/", 1280, 900, wait_for=drawn),
        Shot("job.png", "sam", f"/jobs/{job}/", 1280, 900, wait_for=drawn),
        Shot("queue.png", "ada", "/queue/", 1280, 900),
        Shot("prints.png", "sam", "/prints/", 1280, 760),
        Shot("tv.png", "", tv, 1920, 1080),
    ]


def log_in(page: Page, url: str, who: str) -> None:
    page.goto(f"{url}/login/")
    page.get_by_label("Name").fill(who)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("navigation", name="Pages").wait_for()


def tv_address(browser: Browser, url: str) -> str:
    """Of a new link for a screen in the lab: its path."""
    page = browser.new_page()
    log_in(page, url, "ada")
    page.goto(f"{url}/tv/")
    page.get_by_label("Where the screen hangs").fill("Entrance hall")
    page.get_by_label("Show names").check()
    page.get_by_role("button", name="Make a link").click()
    address = page.get_by_label("Address for Entrance hall").input_value()
    page.context.close()
    return address.removeprefix(url)


def take(browser: Browser, url: str, shot: Shot) -> None:
    context = browser.new_context(
        timezone_id="UTC",
        locale="en-GB",
        viewport={"width": shot.width, "height": shot.height},
        device_scale_factor=shot.scale,
        color_scheme="dark" if shot.dark else "light",
    )
    page = context.new_page()
    if shot.who:
        log_in(page, url, shot.who)
    page.goto(url + shot.path)
    page.locator(shot.wait_for).first.wait_for()
    page.wait_for_load_state("load")
    page.wait_for_timeout(3000)  # charts and cameras: a live page has no end
    page.screenshot(path=DOCS / shot.file, animations="disabled")
    context.close()
    make_small(DOCS / shot.file)


def make_small(file: Path) -> None:
    """256 colours are enough for flat pages, and a quarter of the bytes."""
    with Image.open(file) as image:
        few = image.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(file, optimize=True)


def main() -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "Chromium is not installed"
    with running_lab() as (lab, job), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        url, model = lab.farm.url, lab.upload(lab.sam, "moon.stl")
        for shot in shots(lab, job, model, tv_address(browser, url)):
            take(browser, url, shot)


if __name__ == "__main__":
    main()
