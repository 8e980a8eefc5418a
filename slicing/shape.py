"""The surface of a model, small enough to be sent to a phone and turned there. Pure.

``python -m slicing.shape FILE --name part.stl --out PATH`` writes it and prints one line of JSON: ``{"bytes": n}`` or
``{"error": sentence}``. All numbers are little-endian::

    4 bytes   b"PFM1"
    3 uint32  vertices, triangles, triangles of the file itself
    3 float32 lowest corner, mm
    3 float32 mm of one step of a coordinate, along x, y and z
    uint32    3 corners of each triangle, as numbers of vertices
    uint16    x, y, z of each vertex, in steps from the lowest corner
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicing.mesh import Floats, Ints, Limits, Mesh, MeshError, read_mesh, weld

MAGIC = b"PFM1"
HEADER = 40  # bytes
STEPS = 65_535  # of the longest way that 16 bits can say
MOST_TRIANGLES = 160_000  # 2.4 MB


def packed(mesh: Mesh, most: int = MOST_TRIANGLES) -> bytes:
    """The model with at most ``most`` triangles, at the place where its file puts it."""
    low, high = mesh.bounds
    vertices, faces = simplified(*weld(mesh.triangles), most)
    step = np.maximum(high - low, 1e-6) / STEPS
    steps = np.clip(np.rint((vertices - low) / step), 0, STEPS).astype("<u2")
    counts = np.array([len(steps), len(faces), len(mesh.triangles)], "<u4")
    frame = np.concatenate([low, step]).astype("<f4")
    return b"".join([MAGIC, counts.tobytes(), frame.tobytes(), faces.astype("<u4").tobytes(), steps.tobytes()])


def simplified(vertices: Floats, faces: Ints, most: int) -> tuple[Floats, Ints]:
    """The same surface, coarser: vertices of one cell of a grid become one, at their mean. After J. Rossignac,
    P. Borrel, "Multi-resolution 3D approximations for rendering complex scenes" (1993). Flat or curved, what is seen
    from afar stays; the outermost corners stay where they are."""
    cells = np.sqrt(most)  # along the longest side: a surface of n x n cells has about 2 n^2 triangles
    found = vertices, faces
    while len(found[1]) > most:
        found = _clustered(vertices, faces, cells)
        cells *= 0.8
    return found


def _clustered(vertices: Floats, faces: Ints, cells: float) -> tuple[Floats, Ints]:
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    size = float((high - low).max()) / cells
    x, y, z = ((vertices - low) / size).astype(np.int64).T
    _, cluster = np.unique((x << 42) | (y << 21) | z, return_inverse=True)
    cluster = cluster.ravel()
    count = np.bincount(cluster)
    means = np.stack([np.bincount(cluster, vertices[:, axis]) / count for axis in range(3)], axis=1)
    for axis in range(3):  # a box stays as large as it is
        for edge, value in ((low, vertices[:, axis].argmin()), (high, vertices[:, axis].argmax())):
            means[cluster[value], axis] = edge[axis]
    return means, _proper(cluster[faces])


def _proper(faces: Ints) -> Ints:
    """Without triangles that fell together to a line, and each only once."""
    a, b, c = faces.T
    kept = faces[(a != b) & (b != c) & (c != a)]
    order = np.sort(kept, axis=1)
    key = (order[:, 0] << 42) | (order[:, 1] << 21) | order[:, 2]
    return kept[np.unique(key, return_index=True)[1]]


def unpacked(data: bytes) -> tuple[Floats, NDArray[np.uint32], int]:
    """((n, 3) vertices in mm, (m, 3) faces, triangles of the file itself): the inverse of :func:`packed`."""
    if data[:4] != MAGIC:
        raise ValueError("not a shape")
    vertices, triangles, of_file = np.frombuffer(data, "<u4", 3, 4).tolist()
    frame = np.frombuffer(data, "<f4", 6, 16).astype(np.float64)
    faces = np.frombuffer(data, "<u4", 3 * triangles, HEADER).reshape(-1, 3)
    steps = np.frombuffer(data, "<u2", 3 * vertices, HEADER + 12 * triangles).reshape(-1, 3)
    return frame[:3] + steps * frame[3:], faces, of_file


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slicing.shape", description="A model's surface for browsers.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--name", required=True, help="the name it was uploaded under")
    parser.add_argument("--max-triangles", type=int, default=Limits().max_triangles)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    said: dict[str, Any]
    try:
        data = packed(read_mesh(options.file, options.name, Limits(max_triangles=options.max_triangles)))
        part = options.out.with_name(f".{options.out.name}.{os.getpid()}.part")  # others may look for it meanwhile
        part.write_bytes(data)
        part.replace(options.out)
        said = {"bytes": len(data)}
    except MeshError as error:
        said = {"error": str(error)}
    except MemoryError:
        said = {"error": "The model needs more memory than one view of it may use."}
    sys.stdout.write(json.dumps(said) + "\n")
    return 2 if "error" in said else 0


if __name__ == "__main__":
    from slicing import shape  # by its real name, as slicing.mesh does

    sys.exit(shape.main())
