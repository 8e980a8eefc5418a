"""The slicing engines: name -> where its class is. A class is imported when it is first asked for, because numpy and
the polygon libraries cost memory that a web process must not pay."""

from __future__ import annotations

from importlib import import_module

from slicing.engines.base import Engine, SlicingError
from slicing.engines.site import Site, program_version

ENGINES: dict[str, str] = {
    "planar": "slicing.engines.planar.PlanarEngine",
    "prusaslicer": "slicing.engines.prusaslicer.PrusaSlicer",
    "cura": "slicing.engines.cura.Cura",
}

#: part of every cache key: raise it when the same model and settings give other G-code. Kept here, so that asking for
#: it imports no engine.
VERSIONS: dict[str, str] = {"planar": "5", "prusaslicer": "2", "cura": "2"}


def engine(name: str, site: Site | None = None) -> Engine:
    """The engine of that name, as it is on this machine. Raises SlicingError when there is none."""
    _known(name)
    module, _, attribute = ENGINES[name].rpartition(".")
    kind = getattr(import_module(module), attribute)
    made: Engine = kind() if name == "planar" else kind(site or Site())
    return made


def version(name: str, site: Site) -> str:
    """Ours, and for an external engine also that of its program. Raises SlicingError."""
    _known(name)
    return VERSIONS[name] if name == "planar" else f"{VERSIONS[name]}/{program_version(name, site)}"


def _known(name: str) -> None:
    if name not in ENGINES:
        raise SlicingError(f"There is no slicing engine {name!r}; there are: {', '.join(ENGINES)}.")
