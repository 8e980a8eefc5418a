"""Cura's settings, resolved. CuraEngine takes 575 settings and works none of them out from the others: Cura's desktop
program does, by formulas in its definitions. They are read from the machine at set-up, kept in the farm's data folder
as a plain table, and their formulas are evaluated here by an own small evaluator: arithmetic, comparisons and a dozen
functions, nothing else. Pure."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import math
import operator
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicing.engines.base import SlicingError

FILES = ("fdmprinter.def.json", "fdmextruder.def.json")
#: types of settings that are headings, or that nothing of ours needs
_SKIPPED = ("category",)


def _number(value: Any) -> float:
    """Text times a number, or a power of whole numbers, could be made to fill the memory."""
    if not isinstance(value, int | float):
        raise TypeError
    return value


_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: lambda a, b: _number(a) * _number(b),
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: lambda a, b: float(_number(a)) ** _number(b),
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "max": max,
    "min": min,
    "round": round,
    "abs": abs,
    "int": int,
    "float": float,
    "str": str,
    "len": len,
    "sum": sum,
    "any": any,
    "all": all,
    "map": lambda function, values: [function(value) for value in values],
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "tan", "radians", "sqrt", "atan")},
}


@dataclass(frozen=True, slots=True)
class Setting:
    kind: str
    default: Any
    formula: str  # "" = the default


Table = Mapping[str, Setting]


def table(definitions: Path, data: Path | None) -> Table:
    """Every setting of the definitions in that folder; kept in ``data`` as one JSON file for each version of them.

    Raises SlicingError when they cannot be read.
    """
    try:
        printer, extruder = ((definitions / name).read_bytes() for name in FILES)
        kept = _kept(data, hashlib.sha256(printer + extruder).hexdigest()[:16])
        is_new = kept is None or not kept.exists()
        if kept is None or is_new:
            rows = {**_flat(json.loads(extruder)["settings"]), **_flat(json.loads(printer)["settings"])}
        else:
            rows = json.loads(kept.read_bytes())
    except (OSError, ValueError, KeyError, TypeError):
        raise SlicingError(f"Cura's definitions in {definitions} cannot be read.") from None
    if kept is not None and is_new:
        _keep(kept, rows)
    return {key: Setting(*row) for key, row in rows.items()}


def _kept(data: Path | None, name: str) -> Path | None:
    return data / "engines" / f"cura-{name}.json" if data else None


def _keep(path: Path, rows: dict[str, Any]) -> None:
    """Whole or not at all: several workers may do it at once."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(rows))
    temporary.replace(path)


def _flat(settings: Mapping[str, Any]) -> dict[str, tuple[str, Any, str]]:
    """Settings are a tree under headings."""
    found: dict[str, tuple[str, Any, str]] = {}
    for key, entry in settings.items():
        if entry["type"] not in _SKIPPED:
            value = entry.get("value", "")
            fixed = value if not isinstance(value, str) else entry.get("default_value", "")
            found[key] = (entry["type"], fixed, value.strip() if isinstance(value, str) else "")
        found |= _flat(entry.get("children", {}))
    return found


def resolved(known: Table, given: Mapping[str, Any]) -> dict[str, str]:
    """Every setting as text for the engine: ``given``, and what follows from it. Raises SlicingError for a formula
    that is not understood."""
    missing = sorted(set(given) - set(known))
    if missing:
        raise SlicingError(f"This version of Cura has no {', '.join(missing[:3])}.")
    values = _Values(known, given)
    return {key: _text(values[key]) for key in known}


class _Values:
    """Values by name, each worked out when it is first asked for."""

    def __init__(self, known: Table, given: Mapping[str, Any]) -> None:
        self._known, self._found, self._open = known, dict(given), set[str]()

    def __getitem__(self, key: str) -> Any:
        if key not in self._found:
            if key not in self._known or key in self._open:
                raise SlicingError(f"Cura's setting {key[:60]} cannot be worked out.")
            self._open.add(key)
            setting = self._known[key]
            self._found[key] = self.evaluate(setting.formula) if setting.formula else setting.default
            self._open.discard(key)
        return self._found[key]

    def evaluate(self, formula: str) -> Any:
        try:
            return self._value(_parsed(formula))
        except (SyntaxError, TypeError, ValueError, ArithmeticError, KeyError) as error:
            raise SlicingError(f"Cura's formula {formula[:80]!r} is not understood.") from error

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return self[name]
            case ast.BinOp(left, op, right):
                return _BINARY[type(op)](self._value(left), self._value(right))
            case ast.UnaryOp(op, operand):
                return _UNARY[type(op)](self._value(operand))
            case ast.BoolOp(ast.And(), parts):
                return functools.reduce(lambda done, part: done and self._value(part), parts, True)
            case ast.BoolOp(ast.Or(), parts):
                return functools.reduce(lambda done, part: done or self._value(part), parts, False)
            case ast.IfExp(test, body, orelse):
                return self._value(body if self._value(test) else orelse)
            case ast.Compare(left, ops, rights):
                return self._compared(left, ops, rights)
            case ast.Call(func, args, []):
                return self._function(_dotted(func))(*map(self._argument, args))
            case ast.Attribute() if _dotted(node) == "math.pi":
                return math.pi
            case ast.List(parts) | ast.Tuple(parts):
                return [self._value(part) for part in parts]
        raise TypeError(type(node).__name__)

    def _compared(self, left: ast.expr, ops: list[ast.cmpop], rights: list[ast.expr]) -> bool:
        values = [self._value(part) for part in (left, *rights)]
        return all(_COMPARE[type(op)](a, b) for op, a, b in zip(ops, values[:-1], values[1:], strict=True))

    def _argument(self, node: ast.expr) -> Any:
        """A value, or the name of a function (for ``map``)."""
        return _FUNCTIONS[node.id] if isinstance(node, ast.Name) and node.id in _FUNCTIONS else self._value(node)

    def _function(self, name: str) -> Callable[..., Any]:
        """With one extruder, its values are the values."""
        own: dict[str, Callable[..., Any]] = {
            "resolveOrValue": lambda key: self[key],
            "extruderValue": lambda _, key: self[key],
            "extruderValues": lambda key: [self[key]],
            "defaultExtruderPosition": lambda: "0",
        }
        return own.get(name) or _FUNCTIONS[name]


@functools.lru_cache(maxsize=2048)
def _parsed(formula: str) -> ast.expr:
    return ast.parse(formula, mode="eval").body


def _dotted(node: ast.expr) -> str:
    return f"{_dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
