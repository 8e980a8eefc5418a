"""Read a model file into triangles. Pure: bytes in, arrays out; numpy only, no Django.

A file comes from a stranger, so every count in it is checked before memory is spent on it. The caller still runs this
in a child process with limits on memory and time: ``python -m slicing.mesh FILE --name part.stl`` prints one line of
JSON, either the facts of the model (exit 0) or ``{"error": sentence}`` (exit 2), and then draws it (``--picture``).

Lengths are in mm, volumes in mm3. STL and OBJ carry no unit and are taken as mm; 3MF says its own.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STL_HEADER = 84
STL_FACET = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
SMALLEST_MM = 0.1
LARGEST_MM = 10_000.0
NO_CORNER = "The model is damaged: a face names a corner that does not exist."


class MeshError(Exception):
    """This file is not a model that can be printed; the message is one sentence for its owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a model file may ask of us."""

    max_triangles: int = 2_000_000
    max_bytes: int = 512 * 2**20  # of the file
    max_entries: int = 2_000  # files inside a 3MF
    max_unpacked: int = 2**30  # bytes of a 3MF once unpacked
    max_ratio: int = 200  # of one unpacked entry to its packed size; XML of triangles packs 5 to 30 times
    max_depth: int = 8  # components within components
    max_placed: int = 20_000  # objects on the bed, components counted each time they are used


@dataclass(frozen=True)
class Mesh:
    """Triangles as a file gave them: ``triangles`` is (n, 3, 3) float64, triangle x corner x coordinate."""

    triangles: Floats
    name: str = "model"

    @cached_property
    def bounds(self) -> Floats:
        """(2, 3): lowest and highest corner."""
        axes = [self.triangles[:, :, k] for k in range(3)]  # one by one: reducing rows of three is five times slower
        return np.array([[axis.min() for axis in axes], [axis.max() for axis in axes]])

    @property
    def size_mm(self) -> tuple[float, float, float]:
        x, y, z = (self.bounds[1] - self.bounds[0]).tolist()
        return (x, y, z)

    @cached_property
    def signed_volume_mm3(self) -> float:
        """Positive when the facets face outwards (divergence theorem, about the centre for precision)."""
        a, b, c = np.moveaxis(self.triangles - self.bounds.mean(axis=0), 1, 0)
        return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6.0)

    @property
    def volume_mm3(self) -> float:
        return abs(self.signed_volume_mm3)

    @cached_property
    def watertight(self) -> bool:
        """Every edge is shared by an even number of facets, whichever way they face."""
        return open_edges(weld(self.triangles)[1]).shape[0] == 0

    def facts(self) -> dict[str, Any]:
        """What the API says of a model; JSON-safe."""
        return {
            "name": self.name,
            "size_mm": [round(v, 4) for v in self.size_mm],
            "bounds": [[round(v, 4) for v in corner] for corner in self.bounds.tolist()],
            "triangles": int(self.triangles.shape[0]),
            "volume_mm3": round(self.volume_mm3, 3),
            "watertight": self.watertight,
        }


def weld(triangles: Floats) -> tuple[Floats, Ints]:
    """(vertices (m, 3), faces (n, 3)): corners with equal coordinates become one vertex."""
    corners = np.ascontiguousarray(triangles.reshape(-1, 3) + 0.0)  # + 0.0 turns -0.0 into 0.0
    bits = corners.view(np.uint64)
    # Multiplication by odd constants mixes 192 bits into 64: an accidental collision among 6 million corners has a
    # probability of 1e-6, and would only cost a wrong "watertight" or one wrongly patched hole.
    key = bits[:, 0] * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(29))) + bits[:, 1] * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(32))) + bits[:, 2] * np.uint64(0x94D049BB133111EB)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    return corners[first], inverse.reshape(-1, 3).astype(np.int64)


def open_edges(faces: Ints) -> Ints:
    """(k, 2) directed edges whose undirected edge belongs to an odd number of facets: the rims of holes."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edges = edges[edges[:, 0] != edges[:, 1]]
    key = (edges.min(axis=1) << 32) | edges.max(axis=1)
    _, first, count = np.unique(key, return_index=True, return_counts=True)
    return edges[first[count % 2 == 1]]


def read_mesh(source: Path | str | bytes, name: str = "", limits: Limits | None = None) -> Mesh:
    """Read STL (binary or ASCII), OBJ or 3MF, told by the ending of ``name`` (default: of the path).

    Raises MeshError with a sentence for the owner of the file.
    """
    limits = limits or Limits()
    name = name or (Path(source).name if not isinstance(source, bytes) else "")
    reader = READERS.get(Path(name).suffix.lower())
    if reader is None:
        raise MeshError("This is not a model file: only .stl, .obj and .3mf can be printed.")
    data = source if isinstance(source, bytes) else _read_file(Path(source), limits)
    if not data:
        raise MeshError("The file is empty.")
    return Mesh(_checked(reader(data, limits), limits), name)


def _read_file(path: Path, limits: Limits) -> bytes:
    if path.stat().st_size > limits.max_bytes:
        raise MeshError(f"The file is larger than {limits.max_bytes / 2**20:.0f} MiB.")
    return path.read_bytes()


def too_many(count: int, limits: Limits) -> MeshError:
    return MeshError(
        f"The model has {count:,} triangles; at most {limits.max_triangles:,} are allowed. "
        "Export it with a coarser resolution."
    )


def _checked(triangles: Floats, limits: Limits) -> Floats:
    """The triangles without degenerate ones, or MeshError."""
    if triangles.shape[0] == 0:
        raise MeshError("The model has no triangles.")
    if triangles.shape[0] > limits.max_triangles:
        raise too_many(triangles.shape[0], limits)
    if not np.isfinite(triangles).all():
        raise MeshError("The model has corners that are not numbers (NaN or infinite); export it again.")
    corners = triangles.reshape(-1, 3)
    extent = float((corners.max(axis=0) - corners.min(axis=0)).max())
    if extent > LARGEST_MM:
        raise MeshError(f"The model is {extent / 1000:,.1f} m large. Was it saved in another unit than mm?")
    if extent < SMALLEST_MM:
        raise MeshError(f"The model is only {extent:.2g} mm large. Was it saved in another unit than mm?")
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    solid = np.cross(b - a, c - a).any(axis=1)
    if not solid.any():
        raise MeshError("The model has no surface: all of its triangles are degenerate.")
    return triangles if solid.all() else triangles[solid]


# --- STL -------------------------------------------------------------------------------------------------------------


def _read_stl(data: bytes, limits: Limits) -> Floats:
    count = int.from_bytes(data[80:84], "little") if len(data) >= STL_HEADER else -1
    needed = STL_HEADER + STL_FACET.itemsize * count
    if count >= 0 and needed == len(data):
        if count > limits.max_triangles:
            raise too_many(count, limits)
        with np.errstate(invalid="ignore"):  # a signalling NaN in the file is reported by _checked
            return np.frombuffer(data, STL_FACET, count, STL_HEADER)["corners"].astype(np.float64)
    head = data[:1000].lstrip().lower()
    if head.startswith(b"solid") and (b"facet" in head or b"endsolid" in head):
        return _read_ascii_stl(data, limits)
    if 0 < count < 50_000_000 and needed > len(data) > STL_HEADER:
        raise MeshError(
            f"The STL file is cut off: {count:,} triangles need {needed:,} bytes, the file has {len(data):,}. "
            "Upload it again."
        )
    raise MeshError("This is not an STL file, whatever its name says.")


_NUMBER = rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)"
_VERTEX = re.compile(rb"vertex\s+(%b)\s+(%b)\s+(%b)(?=\s)" % (_NUMBER, _NUMBER, _NUMBER), re.IGNORECASE)


def _read_ascii_stl(data: bytes, limits: Limits) -> Floats:
    lower = data.lower()
    facets = len(re.findall(rb"\bfacet\s+normal\b", lower))
    if facets > limits.max_triangles:
        raise too_many(facets, limits)
    if len(re.findall(rb"\bendfacet\b", lower)) != facets or b"endsolid" not in lower[-2000:]:
        raise MeshError("The STL file is cut off: its last triangle or its end is missing. Upload it again.")
    words = len(re.findall(rb"\bvertex\b", lower))
    corners = _VERTEX.findall(data)
    if words != 3 * facets or len(corners) != words:
        raise MeshError("The STL file is damaged: a triangle does not have three corners of three numbers each.")
    if not corners:
        return np.empty((0, 3, 3))
    return np.array(corners).astype(np.float64).reshape(-1, 3, 3)


# --- OBJ -------------------------------------------------------------------------------------------------------------


def _read_obj(data: bytes, limits: Limits) -> Floats:
    vertices: list[tuple[float, float, float]] = []
    faces: list[tuple[int, int, int]] = []
    for number, line in enumerate(data.replace(b"\\\n", b" ").split(b"\n"), 1):
        words = line.split()
        if not words or words[0] not in (b"v", b"f"):
            continue
        try:
            if words[0] == b"v":
                vertices.append((float(words[1]), float(words[2]), float(words[3])))
            else:
                faces.extend(_obj_fan(words[1:], len(vertices)))
        except (ValueError, IndexError):
            raise MeshError(f"The OBJ file is damaged in line {number}.") from None
        if len(faces) > limits.max_triangles:
            raise too_many(len(faces), limits)
    if not vertices or not faces:
        raise MeshError("This is not an OBJ model: it has no faces.")
    try:
        return pick(np.array(vertices), np.array(faces, np.int64))
    except OverflowError:
        raise MeshError(NO_CORNER) from None


def _obj_fan(words: list[bytes], count: int) -> list[tuple[int, int, int]]:
    """Triangles of one polygon; indices count from 1, negative ones back from the newest vertex."""
    index = [int(word.split(b"/", 1)[0]) for word in words]
    if len(index) < 3 or 0 in index:
        raise ValueError
    index = [i - 1 if i > 0 else count + i for i in index]
    return [(index[0], index[k], index[k + 1]) for k in range(1, len(index) - 1)]


def pick(vertices: Floats, faces: Ints) -> Floats:
    """(n, 3, 3) corners of ``faces``; MeshError when one names a vertex that does not exist."""
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise MeshError(NO_CORNER)
    return vertices[faces]


def _read_3mf(data: bytes, limits: Limits) -> Floats:
    from slicing.threemf import read_3mf  # XML and zip are only paid for by those who send one

    return read_3mf(data, limits)


READERS: dict[str, Callable[[bytes, Limits], Floats]] = {".stl": _read_stl, ".obj": _read_obj, ".3mf": _read_3mf}


def write_stl(mesh: Mesh, path: Path) -> None:
    """Binary STL, the one format that every engine reads."""
    facets = np.zeros(len(mesh.triangles), STL_FACET)
    facets["corners"] = mesh.triangles
    path.write_bytes(b"\0" * 80 + len(facets).to_bytes(4, "little") + facets.tobytes())


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.mesh", description="Facts of one model file, as JSON.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", default="", help="the name it was uploaded under")
    parser.add_argument("--max-triangles", type=int, default=Limits().max_triangles)
    parser.add_argument("--picture", type=Path, help="where to write a picture of it, PNG")
    options = parser.parse_args(argv)
    mesh = None
    try:
        mesh = read_mesh(options.file, options.name, Limits(max_triangles=options.max_triangles))
        facts = mesh.facts()
    except MeshError as error:
        facts = {"error": str(error)}
    except MemoryError:
        facts = {"error": "The model needs more memory than one upload may use. Export it with a coarser resolution."}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()  # whatever happens to the picture, the facts are out
    if mesh is not None and options.picture:
        from slicing.pictures import png, render  # only paid for by those who want one

        options.picture.write_bytes(png(render(mesh.triangles)))
    return 2 if "error" in facts else 0


if __name__ == "__main__":
    # by its real name: under __main__ this file would have an exception class of its own that readers do not raise
    from slicing import mesh

    sys.exit(mesh.main())
