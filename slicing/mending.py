"""Mend a mesh for programs that take it as it is. Pure.

The built-in engine repairs what it cuts, layer by layer (see engines.planar.repair). Other slicers get an STL, and each
makes something else of damage: what is wrong with facets themselves is put right in it. Facets that are there twice
count once, missing ones and holes up to 2 mm are patched, neighbours face the same way, and bodies face outwards. What
is not damaged stays as it was, byte for byte; so does what cannot be made better: cracks between facets that do not
meet, and heaps of loose ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slicing.engines.planar.repair import DECISIVE, TRIFLE, Patches
from slicing.mesh import Floats, Ints, Mesh, open_edges, weld

MOST = 1_000_000  # facets; a larger mesh is left as it is
MOST_BODIES = 50  # whose place among each other is looked at
FEW = 4  # patches that are never too many


def mended(mesh: Mesh) -> Mesh:
    """The same mesh when nothing is wrong with it or nothing can be mended."""
    if len(mesh.triangles) > MOST:
        return mesh
    vertices, faces = weld(mesh.triangles)
    wrong = _uneven(faces)
    if not wrong and mesh.signed_volume_mm3 > 0:
        return mesh
    triangles = vertices[_once(faces)]
    patches = Patches(triangles).facets
    if len(patches) > max(FEW, TRIFLE * len(triangles)):
        return mesh
    vertices, faces = weld(np.concatenate([triangles, patches]))
    faces = _facing(vertices, faces)
    left = _uneven(faces)
    return Mesh(vertices[faces], mesh.name) if left < wrong or not left else mesh


def _uneven(faces: Ints) -> int:
    """How many edges are not run through as often one way as the other."""
    key, forward = _edges(faces)
    order = np.argsort(key)
    first = np.flatnonzero(np.diff(key[order], prepend=-1))
    return int(np.count_nonzero(np.add.reduceat(forward[order], first))) if len(first) else 0


def _edges(faces: Ints) -> tuple[Ints, Ints]:
    """(3 n,) a number for each edge of each face whichever way it runs, and which way that is: 1 or -1. Edges of no
    length count for neither."""
    a, b = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    return (np.minimum(a, b) << 32) | np.maximum(a, b), np.sign(b - a)


def _once(faces: Ints) -> Ints:
    """Every facet one time; or those that are there twice not at all, if that leaves fewer holes: bodies that touch."""
    real = faces[(faces != faces[:, [1, 2, 0]]).all(axis=1)]
    _, first, count = np.unique(np.sort(real, axis=1), axis=0, return_index=True, return_counts=True)
    each, odd = real[np.sort(first)], real[np.sort(first[count % 2 == 1])]
    return odd if len(open_edges(odd)) < len(open_edges(each)) else each


def _facing(vertices: Floats, faces: Ints) -> Ints:
    """Neighbours facing the same way, bodies outwards, hollows in them inwards."""
    flipped, body = _agreed(faces)
    area = np.linalg.norm(np.cross(*np.moveaxis(np.diff(vertices[faces], axis=1), 1, 0)), axis=1)
    count = int(body.max()) + 1
    turned, all_of_it = np.bincount(body, area * flipped, count), np.bincount(body, area, count)
    flipped ^= (turned > all_of_it / 2)[body]  # as most of each body says
    faces = np.where(flipped[:, None], faces[:, ::-1], faces)
    sure = np.maximum(turned, all_of_it - turned) >= DECISIVE * all_of_it
    wrong = _wrong_bodies(vertices[faces], body, sure)
    return np.where(wrong[body][:, None], faces[:, ::-1], faces)


def _wrong_bodies(triangles: Floats, body: Ints, sure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(bodies,) Those that face the wrong way: inwards though they lie in no other, or, where their facets were of two
    minds, not as their depth among the others says."""
    count = len(sure)
    volume = np.bincount(
        body, np.einsum("ij,ij->i", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])), count
    )
    wrong = sure & (volume[sure].sum() < 0)  # all of it is inside out, hollows too
    inwards = (volume < 0) != wrong
    if count > MOST_BODIES:
        return wrong | (~sure & inwards)
    for one in np.flatnonzero(inwards | ~sure).tolist():
        depth = _depth(triangles[int(np.argmax(body == one)), 0], triangles, body, one)
        wrong[one] ^= bool(inwards[one] and depth == 0 if sure[one] else inwards[one] == (depth % 2 == 0))
    return wrong


def _depth(point: Floats, triangles: Floats, body: Ints, own: int) -> int:
    """How many other bodies a point lies in, whichever way they face: the solid angles of their facets add up to a
    whole sphere there (van Oosterom and Strackee, 1983)."""
    a, b, c = np.moveaxis(triangles - point, 1, 0)
    x, y, z = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    inner = [np.einsum("ij,ij->i", *pair) for pair in ((a, b), (b, c), (c, a))]
    angle = 2 * np.arctan2(
        np.einsum("ij,ij->i", a, np.cross(b, c)), x * y * z + inner[0] * z + inner[1] * x + inner[2] * y
    )
    turns = np.abs(np.bincount(body, angle)) / (4 * np.pi)
    turns[own] = 0.0
    return int(np.count_nonzero(turns > 0.5))


def _agreed(faces: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """For each facet whether to flip it so that all neighbours agree with the first of their body, and the number of
    that body. Facets are neighbours where an edge has just two.

    Every root joins its lowest neighbour until no two that are neighbours have different ones (Shiloach and Vishkin,
    1982), and carries along whether it faces the same way.
    """
    key, forward = _edges(faces)
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.diff(key[order], prepend=-1))
    pairs = begin[np.diff(np.append(begin, len(order))) == 2]
    one, other = order[pairs], order[pairs + 1]
    against = forward[one] == forward[other]
    one, other = one // 3, other // 3
    root, flip = np.arange(len(faces)), np.zeros(len(faces), bool)
    while (apart := root[one] != root[other]).any():
        one, other, against = one[apart], other[apart], against[apart]
        ends = np.sort(np.stack([root[one], root[other]]), axis=0)
        order = np.lexsort(ends)
        hooks = order[np.flatnonzero(np.diff(ends[1][order], prepend=-1))]
        flip[ends[1][hooks]] = (against ^ flip[one] ^ flip[other])[hooks]
        root[ends[1][hooks]] = ends[0][hooks]
        while (root[root] != root).any():
            flip ^= flip[root]
            root = root[root]
    return flip, np.unique(root, return_inverse=True)[1]
