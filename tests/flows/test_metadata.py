"""What the real OctoPrint and the real Moonraker read from our files is what we say of them."""

from __future__ import annotations

import base64
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image

from slicing.engines import engine
from slicing.engines.base import Machine, SliceResult, SliceSettings
from slicing.engines.site import Site, missing
from slicing.finishing import Finish, finish
from slicing.gcode import facts
from slicing.headers import thumbnails
from slicing.mesh import Mesh
from slicing.pictures import THUMBNAILS, png, render
from slicing.reading import State, Stretch, chunks, replay, rows
from tests import shapes
from tests.flows.conftest import Peers
from tests.flows.farm import wait_until
from tests.peers import Peer

SETTINGS = SliceSettings(
    layer_height=0.2, first_layer_height=0.24, nozzle_temperature=210, bed_temperature=55,
    first_layer_nozzle_temperature=215, first_layer_bed_temperature=65,
)  # fmt: skip
VERSION = "1.2.3"


class Sliced:
    """A model as the farm's workers slice it."""

    def __init__(self, mesh: Mesh, path: Path, by: str = "planar") -> None:
        self.path = path
        self.result: SliceResult = engine(by, Site()).slice(mesh, Machine(), SETTINGS, path)
        when = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
        picture = png(render(mesh.triangles))
        finish(
            path,
            Finish(
                result=self.result,
                settings=SETTINGS,
                machine=Machine(),
                version=VERSION,
                when=when,
                material="Galaxy Black",
                picture=picture,
            ),
        )
        self.facts = facts(path, Machine())


@pytest.fixture(scope="module")
def gear(tmp_path_factory: pytest.TempPathFactory) -> Sliced:
    return Sliced(shapes.mesh(shapes.gear(18, 12, 5)), tmp_path_factory.mktemp("sliced") / "gear.gcode")


@pytest.fixture(scope="module")
def bust(tmp_path_factory: pytest.TempPathFactory) -> Sliced:
    """More than the two megabytes at the begin and at the end that Moonraker looks at."""
    made = Sliced(
        shapes.mesh(shapes.bumpy_sphere(20, 120, 160)), tmp_path_factory.mktemp("sliced") / "a bust & more.gcode"
    )
    assert made.path.stat().st_size > 2.5 * 2**20
    return made


def by_another(name: str, folder: Path) -> Sliced:
    if reason := missing(name, Site()):
        pytest.skip(reason)
    return Sliced(shapes.mesh(shapes.gear(18, 12, 5)), folder / f"gear by {name}.gcode", by=name)


@pytest.fixture(scope="module")
def by_prusaslicer(tmp_path_factory: pytest.TempPathFactory) -> Sliced:
    return by_another("prusaslicer", tmp_path_factory.mktemp("sliced"))


@pytest.fixture(scope="module")
def by_cura(tmp_path_factory: pytest.TempPathFactory) -> Sliced:
    return by_another("cura", tmp_path_factory.mktemp("sliced"))


def ask(peer: Any, path: str, **params: str) -> Any:
    answer = requests.get(f"{peer.url}{path}", params=params, headers={"X-Api-Key": peer.api_key}, timeout=30)
    answer.raise_for_status()
    return answer


def give(peer: Any, path: str, file: Path) -> None:
    with file.open("rb") as opened:
        answer = requests.post(
            f"{peer.url}{path}",
            files={"file": (file.name, opened)},
            headers={"X-Api-Key": peer.api_key},
            timeout=60,
        )
    answer.raise_for_status()


@pytest.mark.parametrize("name", ["gear", "bust", "by_prusaslicer", "by_cura"])
def test_moonraker_reads_what_we_say(peers: Peers, request: pytest.FixtureRequest, name: str) -> None:
    made: Sliced = request.getfixturevalue(name)
    peer: Peer = peers["moonraker"]
    give(peer, "/server/files/upload", made.path)
    read = ask(peer, "/server/files/metadata", filename=made.path.name).json()["result"]

    assert (read["slicer"], read["slicer_version"]) == ("Print Farm", VERSION)
    assert read["estimated_time"] == round(made.result.time_s) == pytest.approx(made.facts["time_s"], abs=1)
    assert read["filament_total"] == pytest.approx(made.facts["filament_mm"], abs=0.01)
    assert read["filament_weight_total"] == pytest.approx(made.result.filament_g, abs=0.01)
    assert read["filament_weight_total"] == pytest.approx(made.facts["filament_g"], abs=0.01)
    assert (read["layer_height"], read["first_layer_height"]) == (0.2, 0.24)
    assert read["layer_count"] == made.result.layers == made.facts["layers"]
    assert read["object_height"] == pytest.approx(made.facts["height"])
    assert (read["first_layer_extr_temp"], read["first_layer_bed_temp"]) == (215, 65)
    assert read["nozzle_diameter"] == 0.4
    assert read["filament_name"] == "Galaxy Black"


def test_moonraker_shows_our_pictures(peers: Peers, gear: Sliced) -> None:
    peer: Peer = peers["moonraker"]
    give(peer, "/server/files/upload", gear.path)
    read = ask(peer, "/server/files/metadata", filename=gear.path.name).json()["result"]["thumbnails"]
    assert [(one["width"], one["height"]) for one in read] == list(THUMBNAILS), "the small ones need not be made there"
    ours = {(one.width, one.height): one.data for one in thumbnails(gear.path.read_bytes())}
    for one in read:
        data = ask(peer, f"/server/files/gcodes/{one['relative_path']}").content
        assert data == ours[one["width"], one["height"]]
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (one["width"], one["height"])
            assert np.asarray(image.convert("RGBA"))[..., 3].max() == 255, "there is something in it"


def test_octoprint_measures_what_we_say(peers: Peers, gear: Sliced) -> None:
    """Its analysis reads no comments: it follows every move. It knows no acceleration, so its time is that of moves at
    full speed; the farm asks for none of it."""
    peer: Peer = peers["octoprint"]
    give(peer, "/api/files/local", gear.path)

    def analysis() -> Any:
        return ask(peer, f"/api/files/local/{gear.path.name}").json().get("gcodeAnalysis", {})

    wait_until(lambda: analysis().get("printingArea"), "OctoPrint has analysed the file", 60)
    read = analysis()
    assert read["filament"]["tool0"]["length"] == pytest.approx(gear.facts["filament_mm"], abs=0.01)
    assert read["filament"]["tool0"]["volume"] == pytest.approx(gear.facts["filament_cm3"], abs=0.01)
    area, (low, high) = read["printingArea"], gear.facts["bounds"]
    assert [area["maxX"], area["maxY"], area["maxZ"]] == pytest.approx(high, abs=0.001)
    assert [area["minX"], area["minY"]] == pytest.approx(low[:2], abs=0.001)
    assert read["estimatedPrintTime"] == pytest.approx(at_full_speed(gear.path), rel=0.02)
    assert read["estimatedPrintTime"] < gear.facts["time_s"], "a printer must also speed up and slow down"


def at_full_speed(path: Path) -> float:
    """s, if every move were made at the speed that it asks for."""
    total = 0.0
    with path.open("rb") as file:
        for part in replay((rows(text, at) for at, text in chunks(file)), State()):
            if isinstance(part, Stretch):
                way = np.linalg.norm(part.delta[:, :3], axis=1)
                total += float((np.where(way > 0, way, np.abs(part.delta[:, 3])) / part.speed).sum())
    return total


def test_the_pictures_are_where_octoprints_plugins_look(gear: Sliced) -> None:
    """In a block that begins with its size and the length of its base64 text, each line a comment."""
    text = gear.path.read_text()
    for width, height in THUMBNAILS:
        block = text.split(f"; thumbnail begin {width}x{height} ")[1].split("; thumbnail end")[0]
        length, *lines = block.strip().splitlines()
        encoded = "".join(line.removeprefix("; ") for line in lines)
        assert len(encoded) == int(length)
        assert base64.b64decode(encoded).startswith(b"\x89PNG")
