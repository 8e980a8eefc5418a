"""3MF: a zip of XML parts. Units, transforms, components, several objects, parts of their own (production extension).

https://github.com/3MFConsortium/spec_core. Only what is printed is read: colours, supports and slicer settings of the
sender are ignored. Pure.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from array import array
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

import numpy as np

from slicing.mesh import Floats, Limits, MeshError, pick, too_many

UNITS_MM = {
    "micron": 0.001,
    "millimeter": 1.0,
    "centimeter": 10.0,
    "inch": 25.4,
    "foot": 304.8,
    "meter": 1000.0,
}
MODEL_RELATIONSHIP = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
CHUNK = 1 << 20


@dataclass
class _Use:
    """One object placed somewhere: a component or an item of the build."""

    part: str
    object_id: str
    matrix: Floats  # (4, 3): row vectors times this


@dataclass
class _Object:
    kind: str = "model"
    vertices: array[float] = field(default_factory=lambda: array("d"))
    faces: array[int] = field(default_factory=lambda: array("q"))
    components: list[_Use] = field(default_factory=list)


@dataclass
class _Part:
    unit: float = 1.0
    objects: dict[str, _Object] = field(default_factory=dict)
    build: list[_Use] = field(default_factory=list)


def read_3mf(data: bytes, limits: Limits) -> Floats:
    """(n, 3, 3) corners in mm of everything that the file wants printed. Raises MeshError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            package = _Package(archive, limits)
            return package.triangles()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError):
        raise MeshError("The 3MF file is damaged or encrypted; it cannot be unpacked.") from None


class _Package:
    def __init__(self, archive: zipfile.ZipFile, limits: Limits) -> None:
        self.archive, self.limits = archive, limits
        self.parts: dict[str, _Part] = {}
        self.left = limits.max_unpacked
        self.made = self.placed = 0
        self._scan()

    def _scan(self) -> None:
        """Refuse a zip bomb by what its directory says, before anything is unpacked."""
        entries = self.archive.infolist()
        if len(entries) > self.limits.max_entries:
            raise MeshError(f"The 3MF file holds {len(entries):,} files; a model has a few.")
        if sum(e.file_size for e in entries) > self.limits.max_unpacked:
            raise MeshError("The 3MF file is too large once unpacked.")
        if any(e.file_size > CHUNK and e.file_size > self.limits.max_ratio * e.compress_size for e in entries):
            raise MeshError("The 3MF file is packed suspiciously tight; it looks like a zip bomb.")

    def read(self, name: str) -> bytes:
        """One entry, counted while it is unpacked: the directory may lie about sizes."""
        pieces = []
        try:
            with self.archive.open(name.lstrip("/")) as stream:
                while piece := stream.read(CHUNK):
                    self.left -= len(piece)
                    if self.left < 0:
                        raise MeshError("The 3MF file is too large once unpacked.")
                    pieces.append(piece)
        except KeyError:
            raise MeshError("This is not a 3MF model: a part of it is missing.") from None
        return b"".join(pieces)

    def root(self) -> str:
        """The name of the part that holds the build, from the package's relationships."""
        found: list[str] = []

        def start(tag: str, attributes: dict[str, str]) -> None:
            if _local(tag) == "Relationship" and attributes.get("Type") == MODEL_RELATIONSHIP:
                found.append(attributes.get("Target", ""))

        _parse(self.read("_rels/.rels"), start)
        if not found:
            raise MeshError("This is not a 3MF model: it names no model part.")
        return _clean(found[0])

    def part(self, name: str) -> _Part:
        if name not in self.parts:
            reader = _PartReader(name, self.limits)
            _parse(self.read(name), reader.start)
            self.parts[name] = reader.part
        return self.parts[name]

    def triangles(self) -> Floats:
        root = self.root()
        part = self.part(root)
        made = [self.expand(use, 1) for use in part.build]
        flat = [piece for pieces in made for piece in pieces]
        if not flat:
            raise MeshError("The 3MF file has nothing to print in it.")
        return np.concatenate(flat) * part.unit

    def expand(self, use: _Use, depth: int) -> list[Floats]:
        """Triangles of one placed object and of its components, in the unit of the part that places it."""
        if depth > self.limits.max_depth:
            raise MeshError("The 3MF file nests its components too deep, or in a circle.")
        self.placed += 1
        if self.placed > self.limits.max_placed:
            raise MeshError("The 3MF file places too many objects.")
        part = self.part(use.part)
        thing = part.objects.get(use.object_id)
        if thing is None:
            raise MeshError("The 3MF file is damaged: it places an object that it does not hold.")
        if thing.kind != "model":
            return []
        pieces = [piece for component in thing.components for piece in self.expand(component, depth + 1)]
        if thing.faces:
            self.made += len(thing.faces) // 3
            if self.made > self.limits.max_triangles:
                raise too_many(self.made, self.limits)
            vertices = np.frombuffer(thing.vertices, np.float64).reshape(-1, 3)
            pieces.append(pick(vertices, np.frombuffer(thing.faces, np.int64).reshape(-1, 3)))
        return [_placed(piece, use.matrix) for piece in pieces]


def _placed(triangles: Floats, matrix: Floats) -> Floats:
    # Column by column and not as a matrix product: equal corners must stay equal to the last bit, or sections would
    # not close, and a blocked product may round the same input differently at different places.
    x, y, z = triangles[..., 0], triangles[..., 1], triangles[..., 2]
    moved = np.stack([x * matrix[0, k] + y * matrix[1, k] + z * matrix[2, k] + matrix[3, k] for k in range(3)], -1)
    return moved[:, ::-1] if np.linalg.det(matrix[:3]) < 0 else moved  # a mirror turns facets inside out


class _PartReader:
    """Fills a _Part from the events of the parser."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name, self.limits = name, limits
        self.part = _Part()
        self.current = _Object()
        self.triangles = 0

    def start(self, tag: str, a: dict[str, str]) -> None:
        local = _local(tag)
        if local == "vertex":
            self.current.vertices.extend((float(a["x"]), float(a["y"]), float(a["z"])))
        elif local == "triangle":
            self.current.faces.extend((int(a["v1"]), int(a["v2"]), int(a["v3"])))
            self.triangles += 1
            if self.triangles > self.limits.max_triangles:
                raise too_many(self.triangles, self.limits)
        elif local == "object":
            self.current = self.part.objects[a["id"]] = _Object(a.get("type", "model"))
        elif local == "component":
            self.current.components.append(self._use(a))
        elif local == "item":
            if _local_get(a, "printable") not in ("0", "false"):
                self.part.build.append(self._use(a))
        elif local == "model":
            self._unit(a.get("unit", "millimeter"))

    def _unit(self, word: str) -> None:
        if word not in UNITS_MM:
            raise MeshError(f"The 3MF file uses an unknown unit, {word[:20]!r}.")
        self.part.unit = UNITS_MM[word]

    def _use(self, a: dict[str, str]) -> _Use:
        numbers = [float(word) for word in a.get("transform", "1 0 0 0 1 0 0 0 1 0 0 0").split()]
        if len(numbers) != 12 or not np.isfinite(numbers).all():
            raise ValueError
        return _Use(_clean(_local_get(a, "path") or self.name), a["objectid"], np.array(numbers).reshape(4, 3))


def _parse(xml: bytes, start: Any) -> None:
    """Feed ``xml`` to the parser. A DOCTYPE is refused: that is where entity bombs and outside files live."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(xml, True)
    except (expat.ExpatError, KeyError, ValueError, LookupError, OverflowError):
        raise MeshError("The 3MF file is damaged: its model part cannot be read.") from None


def _refuse_doctype(*_: Any) -> None:
    raise MeshError("The 3MF file contains a DOCTYPE, which a model has no use for.")


def _local(tag: str) -> str:
    return tag.rpartition(" ")[2]


def _local_get(attributes: dict[str, str], name: str) -> str | None:
    """An attribute by its local name, whichever namespace it is in."""
    return next((value for key, value in attributes.items() if _local(key) == name), None)


def _clean(path: str) -> str:
    return posixpath.normpath("/" + path).lstrip("/")
