"""``python -m slicing.standing FILE --name part.stl [--placement JSON]``: how large a model is when it stands like
that, and which ways to put it down are good ones. One line of JSON, the facts (exit 0) or ``{"error": sentence}``
(exit 2). Pure: run in a child process, like everything that reads strangers' files."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slicing.engines.base import SlicingError
from slicing.mesh import Limits, MeshError, read_mesh
from slicing.placement import Placement, placed, stands
from slicing.stance import Stance, stance

MOST = 6  # suggestions


def facts(path: Path, name: str, wanted: Stance, limits: Limits) -> dict[str, Any]:
    """``size_mm`` as it would stand; ``stands`` of the model as it is in its file, best first. Raises MeshError."""
    mesh = read_mesh(path, name, limits)
    scaled = placed(mesh, Placement(scale=wanted.scale))
    return {
        "size_mm": [round(v, 4) for v in placed(mesh, Placement(scale=wanted.scale, rotation=wanted.rotation)).size_mm],
        "stands": [asdict(stand) for stand in stands(scaled)[:MOST]],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.standing", description="How a model may stand, as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("--placement", default="{}")
    parser.add_argument("--max-triangles", type=int, default=Limits().max_triangles)
    options = parser.parse_args(argv)
    limits = Limits(max_triangles=options.max_triangles)
    try:
        found = facts(options.file, options.name, stance(json.loads(options.placement)), limits)
    except (MeshError, SlicingError) as error:
        found = {"error": str(error)}
    except MemoryError:
        found = {"error": "The model needs more memory than one upload may use. Export it with a coarser resolution."}
    sys.stdout.write(json.dumps(found) + "\n")
    return 2 if "error" in found else 0


if __name__ == "__main__":
    sys.exit(main())
