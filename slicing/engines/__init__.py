"""The slicing engines: name -> where its class is. A class is imported when it is first asked for, because numpy and
the polygon libraries cost memory that a web process must not pay."""

from __future__ import annotations

from importlib import import_module

from slicing.engines.base import Engine, SlicingError

ENGINES: dict[str, str] = {
    "planar": "slicing.engines.planar.PlanarEngine",
}

#: part of every cache key: raise it when the same model and settings give other G-code. Kept here, so that asking for
#: it imports no engine.
VERSIONS: dict[str, str] = {"planar": "3"}


def engine(name: str) -> Engine:
    """The engine of that name. Raises SlicingError when there is none."""
    if name not in ENGINES:
        raise SlicingError(f"There is no slicing engine {name!r}; there are: {', '.join(ENGINES)}.")
    module, _, attribute = ENGINES[name].rpartition(".")
    made: Engine = getattr(import_module(module), attribute)()
    return made
