"""Every door of the API, tried by those who should not come through it. The doors are read from the URLs themselves:
one that is added without a row in the table below fails here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from farm.models import User
from jobs.models import Job, Print
from printers.commands import request_command
from printers.models import Command, Printer, Role
from slicing.models import Gcode, Material, Model3D, PrinterProfile, Quality
from tests.api import api, refused
from tests.cast import Cast, attempt, gcode, grant, job, person
from tests.machines import Machines

pytestmark = pytest.mark.django_db

METHODS = ("get", "post", "put", "patch", "delete")
#: these are for everyone: they let people in, or describe the doors
PUBLIC = {"token/", "token/refresh/", "schema/", "docs/"}
#: what is there, and nothing else
CATCH_ALL = "^.*$"
#: a list without a row of others
EMPTY = "empty list"


@dataclass(frozen=True)
class Door:
    """Statuses that a stranger gets (logged in, without any right) and a viewer (may see the printer, no more), about
    a printer of others, a job of others ..."""

    stranger: int | str
    viewer: int | str
    body: dict[str, Any] = field(default_factory=dict)
    query: str = ""


#: 415 and 422 where everybody who is logged in may send something: they are inside, and sent nothing
DOORS = {
    "post ws-ticket/": Door(201, 201),
    "get profiles/": Door(200, 200),
    "post profiles/": Door(403, 403),
    "post profiles/import/": Door(403, 403),
    "get profiles/<uuid:pk>/": Door(200, 200),
    "patch profiles/<uuid:pk>/": Door(403, 403),
    "get profiles/<uuid:pk>/revisions/": Door(200, 200),
    "get materials/": Door(200, 200),
    "post materials/": Door(403, 403),
    "get materials/<uuid:pk>/": Door(200, 200),
    "patch materials/<uuid:pk>/": Door(403, 403),
    "get materials/<uuid:pk>/revisions/": Door(200, 200),
    "get qualities/": Door(200, 200),
    "post qualities/": Door(403, 403),
    "get qualities/<uuid:pk>/": Door(200, 200),
    "patch qualities/<uuid:pk>/": Door(403, 403),
    "get qualities/<uuid:pk>/revisions/": Door(200, 200),
    "get settings/": Door(200, 200),
    "get engines/": Door(200, 200),
    "get models/": Door(EMPTY, EMPTY),
    "post models/": Door(415, 415),
    "get models/<uuid:pk>/": Door(404, 404),
    "get models/<uuid:pk>/stands/": Door(404, 404),
    "get models/<uuid:pk>/file/": Door(404, 404),
    "get models/<uuid:pk>/picture/": Door(404, 404),
    "get models/<uuid:pk>/shape/": Door(404, 404),
    "get models/<uuid:pk>/estimate/toolpaths/": Door(404, 404),
    "get models/<uuid:pk>/estimate/toolpaths/<int:number>/": Door(404, 404),
    "get gcodes/": Door(EMPTY, EMPTY),
    "post gcodes/": Door(403, 403),
    "get gcodes/<uuid:pk>/": Door(404, 404),
    "get gcodes/<uuid:pk>/picture/": Door(404, 404),
    "get gcodes/<uuid:pk>/layers/<int:number>/picture/": Door(404, 404),
    "get gcodes/<uuid:pk>/toolpaths/": Door(404, 404),
    "get gcodes/<uuid:pk>/toolpaths/<int:number>/": Door(404, 404),
    "get printers/": Door(EMPTY, 200),
    "post printers/": Door(403, 403),
    "post printers/actions/": Door(422, 422),
    "get printers/<uuid:pk>/": Door(404, 200),
    "patch printers/<uuid:pk>/": Door(404, 403, {"name": "Mine"}),
    "delete printers/<uuid:pk>/": Door(404, 403),
    "post printers/<uuid:pk>/test/": Door(404, 403),
    "get printers/<uuid:pk>/state/": Door(404, 200),
    "get printers/<uuid:pk>/temperatures/": Door(404, 200),
    "get printers/<uuid:pk>/camera/": Door(404, 200),
    "get printers/<uuid:pk>/camera/picture/": Door(404, 404),
    "get printers/<uuid:pk>/camera/live/": Door(404, 404),
    "post printers/<uuid:pk>/clear-bed/": Door(404, 403, {"bed": 1}),
    "get printers/<uuid:pk>/commands/": Door(404, 403),
    "post printers/<uuid:pk>/commands/": Door(404, 403, {"command": "emergency_stop"}),
    "get printers/<uuid:pk>/commands/<uuid:command_pk>/": Door(404, 404),
    "get printers/<uuid:pk>/files/": Door(404, 403),
    "delete printers/<uuid:pk>/files/": Door(404, 403, query="?path=a.gcode"),
    "get printers/<uuid:pk>/objects/": Door(404, 403),
    "get jobs/": Door(EMPTY, EMPTY),
    "post jobs/": Door(422, 422),
    "get jobs/<uuid:pk>/": Door(404, 404),
    "post jobs/<uuid:pk>/cancel/": Door(404, 404),
    "post jobs/<uuid:pk>/start/": Door(404, 404),
    "post jobs/<uuid:pk>/hold/": Door(404, 404),
    "post jobs/<uuid:pk>/again/": Door(404, 404),
    "post jobs/<uuid:pk>/approve/": Door(404, 404),
    "post jobs/<uuid:pk>/reject/": Door(404, 404),
    "get jobs/<uuid:pk>/events/": Door(404, 404),
    "get jobs/<uuid:pk>/gcode/": Door(404, 404),
    "get jobs/<uuid:pk>/picture/": Door(404, 404),
    "get jobs/<uuid:pk>/layers/<int:number>/picture/": Door(404, 404),
    "get jobs/<uuid:pk>/toolpaths/": Door(404, 404),
    "get jobs/<uuid:pk>/toolpaths/<int:number>/": Door(404, 404),
    "get prints/": Door(EMPTY, EMPTY),
    "get prints/<uuid:pk>/": Door(404, 404),
    "post prints/<uuid:pk>/decide/": Door(404, 404, {"outcome": "failed"}),
}


def routes() -> dict[str, Any]:
    """route under /api/ -> view class (None: a plain function)"""
    api_urls = next(
        row for row in get_resolver().url_patterns if isinstance(row, URLResolver) and str(row.pattern) == "api/"
    )
    found = {}
    for row in api_urls.url_patterns:
        assert isinstance(row, URLPattern), "an include under /api/: walk it too"
        found[str(row.pattern)] = getattr(row.callback, "view_class", getattr(row.callback, "cls", None))
    return found


def doors() -> Iterator[str]:
    """ "method route" of everything that can be called and is not for everyone."""
    for route, view in routes().items():
        if route not in PUBLIC and route != CATCH_ALL:
            yield from (f"{method} {route}" for method in METHODS if hasattr(view, method))


@dataclass
class World:
    """One of everything, all of it Sam's or on Anvil; nothing of it is for a stranger."""

    cast: Cast

    def __post_init__(self) -> None:
        code = gcode(self.cast.anvil)
        Gcode.objects.filter(pk=code.pk).update(owner=self.cast.sam)
        self.live = attempt(job(self.cast.sam, gcode=code), self.cast.anvil)
        command = request_command(self.cast.anvil, "pause", {}, by=self.cast.sam, print_id=self.live.pk)
        self.ids: dict[str, UUID] = {
            "profiles": self.cast.anvil.profile_id,
            "materials": Material.objects.values_list("pk", flat=True)[0],
            "qualities": Quality.objects.values_list("pk", flat=True)[0],
            "models": Model3D.objects.get().pk,
            "gcodes": code.pk,
            "printers": self.cast.anvil.pk,
            "jobs": self.live.job_id,
            "prints": self.live.pk,
        }
        self.command = command.pk

    def path(self, route: str) -> str:
        """The first id is that of the thing that the address begins with."""
        thing = str(self.ids.get(route.partition("/")[0], ""))
        words = {"<uuid:pk>": thing, "<uuid:command_pk>": str(self.command), "<int:number>": "1"}
        for word, value in words.items():
            route = route.replace(word, value)
        return f"/api/{route}"

    def everything(self) -> list[Any]:
        """What there is and how it is, to see that nothing was touched."""
        kinds = (Printer, Job, Print, Command, Model3D, Gcode, PrinterProfile, Material, Quality)
        return [list(kind._default_manager.order_by("pk").values()) for kind in kinds]


@pytest.fixture
def world(cast: Cast) -> World:
    return World(cast)


def call(user: User | None, world: World, door: str) -> Any:
    method, _, route = door.partition(" ")
    row = DOORS[door]
    path = world.path(route) + row.query
    return getattr(api(user), method)(path, row.body) if method != "get" else api(user).get(path)


def expect(answer: Any, wanted: int | str) -> None:
    if wanted == EMPTY:
        assert answer.status_code == 200
        assert answer.json()["results"] == []
    elif isinstance(wanted, int) and wanted >= 400:
        refused(answer, wanted)
    else:
        assert answer.status_code == wanted, answer.content


def test_every_door_has_its_row_and_every_row_its_door() -> None:
    assert set(doors()) == set(DOORS)


def test_every_view_behind_a_door_is_one_of_the_farms(db: None) -> None:
    """FarmView asks who it is, counts and keeps repeats: a view without it would not."""
    from farm.api import FarmView

    for route, view in routes().items():
        if route not in PUBLIC and route != CATCH_ALL:
            assert issubclass(view, FarmView), route


def test_nobody_comes_in_without_saying_who_it_is(world: World, machines: Machines) -> None:
    before = world.everything()
    for door in DOORS:
        answer = call(None, world, door)
        refused(answer, 401, "not_authenticated")
        assert answer["WWW-Authenticate"].startswith("Bearer")
    assert world.everything() == before
    assert machines[world.cast.anvil].calls == []


def test_somebody_who_was_switched_off_is_nobody(world: World, machines: Machines) -> None:
    client, before = api(world.cast.ada), world.everything()
    User.objects.filter(pk=world.cast.ada.pk).update(is_active=False)
    for door in DOORS:
        method, _, route = door.partition(" ")
        refused(getattr(client, method)(world.path(route)), 401)
    assert world.everything() == before
    assert machines[world.cast.anvil].calls == []


@pytest.mark.parametrize("door", DOORS)
def test_a_stranger_finds_nothing(world: World, machines: Machines, door: str) -> None:
    before = world.everything()
    expect(call(world.cast.mallory, world, door), DOORS[door].stranger)
    assert world.everything() == before
    assert machines[world.cast.anvil].calls == []


@pytest.mark.parametrize("door", DOORS)
def test_who_may_only_look_touches_nothing(world: World, machines: Machines, door: str) -> None:
    viewer = person("vera")
    grant(viewer, world.cast.anvil, Role.VIEW)
    before = world.everything()
    answer = call(viewer, world, door)
    expect(answer, DOORS[door].viewer)
    assert world.everything() == before
    assert set(machines[world.cast.anvil].calls) <= {("camera",)}  # to look is to ask where its camera is
    for secret in ("bracket", "Sam", "sam", world.live.remote_path, str(world.live.pk)):
        assert secret not in b"".join([] if answer.streaming else [answer.content]).decode()


def test_what_is_not_there_and_what_one_may_not_see_are_the_same(world: World) -> None:
    doors = [door for door, row in DOORS.items() if row.stranger == 404]
    hidden = [call(world.cast.mallory, world, door) for door in doors]
    world.ids = dict.fromkeys(world.ids, UUID(int=7))
    for door, one in zip(doors, hidden, strict=True):
        missing = call(world.cast.mallory, world, door)
        assert (door, missing.status_code, missing.json()) == (door, one.status_code, one.json())


def test_operators_do_not_change_a_profile_of_printers_that_others_operate(world: World) -> None:
    """Anvil and Cellar share the default profile, and Olivia operates only Anvil."""
    client, path = api(world.cast.olivia), world.path("profiles/<uuid:pk>/")
    refused(client.patch(path, {"max_nozzle_temperature": 300}), 403, "forbidden")
    own = client.post("/api/profiles/", {"name": "Mine"}).json()
    Printer.objects.filter(pk=world.cast.anvil.pk).update(profile=own["id"])
    assert client.patch(f"/api/profiles/{own['id']}/", {"max_nozzle_temperature": 300}).status_code == 200
    Printer.objects.filter(pk=world.cast.cellar.pk).update(profile=own["id"])
    refused(client.patch(f"/api/profiles/{own['id']}/", {"max_nozzle_temperature": 310}), 403, "forbidden")
    assert PrinterProfile.objects.get(pk=own["id"]).max_nozzle_temperature == 300
