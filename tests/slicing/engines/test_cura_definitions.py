from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slicing.engines import curadefs
from slicing.engines.base import Machine, SliceSettings, SlicingError
from slicing.engines.cura import config
from slicing.engines.curadefs import Setting, resolved, table
from slicing.engines.site import Site


def definitions(folder: Path, **settings: Any) -> Path:
    """As Cura has them: a tree under headings, formulas as text."""
    tree = {"shell": {"type": "category", "children": settings}}
    (folder / curadefs.FILES[0]).write_text(json.dumps({"settings": tree}))
    nozzle = {"offset": {"type": "float", "default_value": 0.5}}
    (folder / curadefs.FILES[1]).write_text(json.dumps({"settings": nozzle}))
    return folder


def number(default: float, value: str = "", **children: Any) -> dict[str, Any]:
    said = {"value": value} if value else {}
    return {"type": "float", "default_value": default, "children": children, **said}


def test_formulas_follow_what_is_given_and_each_other(tmp_path: Path) -> None:
    folder = definitions(
        tmp_path,
        width=number(0.4, "offset * 2", outer=number(0.4, "width")),
        count=number(2, "max(1, round((thick - outer) / width) + 1) if outer != 0 else 0"),
        thick=number(0.8),
    )
    known = table(folder, None)
    assert resolved(known, {}) == {"offset": "0.5", "width": "1", "outer": "1", "count": "1", "thick": "0.8"}
    assert resolved(known, {"width": 0.4})["count"] == "2"
    assert resolved(known, {"width": 0.4, "thick": 1.6})["count"] == "4"


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("'yes' if a > 1 and not b else 'no'", "yes"),
        ("math.ceil(round(a / 0.2, 4))", "15"),
        ("any(extruderValues('b')) or resolveOrValue('a') == 3", "true"),
        ("extruderValue(defaultExtruderPosition(), 'a') ** 2 % 5", "4"),
        ("sum(map(int, extruderValues('a')))", "3"),
        ("-a + math.pi * 0", "-3"),
        ("[a, 1]", "[3.0, 1]"),
        ("1 < a <= 3", "true"),
    ],
)
def test_the_small_language_of_formulas_is_understood(formula: str, value: str) -> None:
    known = {"a": Setting("float", 3.0, ""), "b": Setting("bool", False, ""), "x": Setting("str", "", formula)}
    assert resolved(known, {})["x"] == value


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "(1).__class__",
        "[x for x in (1, 2)]",
        "lambda: 1",
        "open('/etc/passwd')",
        "math.factorial(9)",
        "nothing_of_that_name",
        "x + 1",
        "1 / 0",
        "max(1, key=abs)",
        "1 +",
        "9 ** 9 ** 9 ** 9",
        "'a' * 999999999",
    ],
)
def test_nothing_else_is(formula: str) -> None:
    with pytest.raises(SlicingError):
        resolved({"x": Setting("float", 0.0, formula)}, {})


def test_the_table_is_kept_for_each_version_of_the_definitions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    source = tmp_path / "definitions"
    source.mkdir()
    first = table(definitions(source, a=number(1)), data)
    kept = list((data / "engines").iterdir())
    assert len(kept) == 1
    assert table(source, data) == first
    assert set(table(definitions(source, b=number(1)), data)) == {"b", "offset"}
    assert len(list((data / "engines").iterdir())) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"settings": {"a": 1}}'])
def test_definitions_that_cannot_be_read_are_refused_by_name(content: str, tmp_path: Path) -> None:
    definitions(tmp_path)
    (tmp_path / curadefs.FILES[0]).write_text(content)
    with pytest.raises(SlicingError, match="cannot be read"):
        table(tmp_path, None)


def test_a_setting_that_this_version_of_cura_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(SlicingError, match="no cheese"):
        resolved(table(definitions(tmp_path), None), {"cheese": 1})


def test_all_of_the_real_ones_are_worked_out() -> None:
    folder = Site().definitions()
    if folder is None:
        pytest.skip("Cura's definitions are not on this machine")
    known = table(folder, None)
    values = resolved(known, config(Machine(), SliceSettings(infill_density=20.0, brim_width=9.0)))
    assert len(values) > 500
    assert float(values["infill_line_distance"]) == pytest.approx(0.45 * 100 / 20)
    assert values["brim_line_count"] == "20"
    assert values["machine_width"] == "220"
