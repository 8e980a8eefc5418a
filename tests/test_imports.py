"""Who may import whom. Imports flow one way: kernel <- slicing <- printers <- jobs <- assembly, and inside an app
pure modules <- models <- services and access <- doors (tasks, API, pages, admin)."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
APPS = ("slicing", "printers", "jobs")
#: in farm/: what runs the whole; nobody imports it. The rest of farm/ is the kernel, which imports no app
ASSEMBLY = {
    f"farm.{name}"
    for name in ("settings", "celery", "hub", "viewing", "tickets", "live", "asgi", "urls", "apps", "management")
}
#: arrays in, arrays out; text in, facts out; tables and decisions
PURE = {
    *(
        f"slicing.{name}"
        for name in (
            "mesh",
            "mending",
            "threemf",
            "gcode",
            "bgcode",
            "reading",
            "headers",
            "pictures",
            "layering",
            "layers",
            "relief",
            "finishing",
            "engines",
            "placement",
            "shape",
            "presets",
            "prusaini",
            "stance",
            "standing",
            "toolpaths",
        )
    ),
    *(f"printers.{name}" for name in ("drivers", "simulators")),
    *(f"jobs.{name}" for name in ("states", "tracking", "matching", "pace")),
}
DOORS = {"tasks", "api", "pages", "admin", "urls", "management", "templatetags", "apps"}
PURE_RANK, MODELS_RANK, SERVICES_RANK, DOORS_RANK = range(4)


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by name, packages by theirs; migrations are made by a machine."""
    found = {}
    for top in ("farm", *APPS):
        for path in (ROOT / top).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if "migrations" not in parts:
                found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str) -> set[str]:
    """Full names of what it imports anywhere, also inside functions; of ours always as modules."""
    found = set()
    for node in ast.walk(ast.parse(modules()[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: the full name says where things come from"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in modules() else str(node.module))
    return found


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.partition(".")[0] in ("farm", *APPS)}


def within(module: str, names: set[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in names)


def height(module: str) -> int:
    """kernel 0, slicing 1, printers 2, jobs 3, assembly 4"""
    top = module.partition(".")[0]
    return 1 + APPS.index(top) if top in APPS else 4 if within(module, ASSEMBLY) else 0


def rank(module: str) -> int:
    """Where a module of an app stands inside it."""
    if within(module, PURE):
        return PURE_RANK
    name = module.split(".")[1] if "." in module else "__init__"
    return MODELS_RANK if name == "models" else DOORS_RANK if name in DOORS else SERVICES_RANK


def every_import() -> list[tuple[str, str]]:
    return [(module, name) for module in sorted(modules()) for name in sorted(ours(module))]


def said(pairs: list[tuple[str, str]]) -> str:
    return "\n".join(f"{module} imports {name}" for module, name in pairs)


def test_the_lists_above_name_modules_that_exist() -> None:
    assert not (ASSEMBLY | PURE) - set(modules())


def test_imports_flow_from_the_kernel_over_the_apps_to_the_assembly() -> None:
    upward = [(module, name) for module, name in every_import() if height(name) > height(module)]
    assert not upward, said(upward)


def test_only_the_farms_app_config_imports_celery_so_that_every_process_has_our_app() -> None:
    who = [module for module, name in every_import() if name == "farm.celery"]
    assert who == ["farm.apps"]


def test_inside_an_app_pure_modules_come_first_and_doors_last() -> None:
    wrong = [
        (module, name)
        for module, name in every_import()
        if 0 < height(name) <= height(module) < 4 and rank(name) > rank(module)
    ]
    assert not wrong, said(wrong)


def test_nobody_imports_tasks_because_they_are_called_by_name() -> None:
    wrong = [(module, name) for module, name in every_import() if name.endswith(".tasks")]
    assert not wrong, said(wrong)


def test_only_the_demo_and_tests_use_simulators() -> None:
    wrong = [
        (module, name)
        for module, name in every_import()
        if within(name, {"printers.simulators"}) and not within(module, {"printers.simulators"})
    ]
    assert not wrong, said(wrong)


@pytest.mark.parametrize("room", ["slicing.engines", "slicing.mesh", "printers.drivers", "printers.simulators"])
def test_what_knows_machines_and_meshes_knows_no_django(room: str) -> None:
    frameworks = {"django", "rest_framework", "channels", "celery"}
    users = {module: imports(module) for module in modules() if within(module, {room})}
    assert users
    wrong = [(module, name) for module, names in users.items() for name in names if within(name, frameworks)]
    assert not wrong, said(wrong)


def test_the_supervisor_knows_no_django() -> None:
    for module in ("farm.management.processes", "farm.management.redis_server"):
        assert not [name for name in imports(module) if name.startswith("django")]
