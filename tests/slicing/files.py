"""Files as people bring them: models in more than one format, G-code of known slicers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from slicing.reading import State, Stretch, replay, rows
from tests import shapes


# -- models
def ascii_stl(triangles: shapes.Triangles) -> bytes:
    lines = ["solid part"]
    for t in triangles:
        lines += ["facet normal 0 0 0", "outer loop", *(f"vertex {x:.6e} {y} {z}" for x, y, z in t.tolist())]
        lines += ["endloop", "endfacet"]
    return "\n".join([*lines, "endsolid part", ""]).encode()


XML = """<?xml version="1.0" encoding="UTF-8"?>{doctype}
<model unit="{unit}" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
 xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06">
<resources>{resources}</resources><build>{build}</build></model>"""


def mesh_object(number: int, triangles: shapes.Triangles) -> str:
    vertices = "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in triangles.reshape(-1, 3).tolist())
    faces = "".join(f'<triangle v1="{k}" v2="{k + 1}" v3="{k + 2}"/>' for k in range(0, 3 * len(triangles), 3))
    return (
        f'<object id="{number}" type="model"><mesh><vertices>{vertices}</vertices>'
        f"<triangles>{faces}</triangles></mesh></object>"
    )


def threemf(resources: str, build: str, unit: str = "millimeter", doctype: str = "", **parts: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "_rels/.rels",
            '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="r" '
            'Target="/3D/3dmodel.model" Type="http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"/>'
            "</Relationships>",
        )
        archive.writestr("3D/3dmodel.model", XML.format(unit=unit, resources=resources, build=build, doctype=doctype))
        for name, text in parts.items():
            archive.writestr(name.replace("__", "/") + ".model", text)
    return made.getvalue()


BOX = shapes.box(20, 10, 5)


# -- G-code
SAMPLES = Path(__file__).resolve().parents[1] / "data" / "gcode"
NAMES = ["prusaslicer", "orcaslicer", "cura", "simplify3d"]


def sample(name: str) -> Path:
    return SAMPLES / f"{name}.gcode"


def extruded(text: bytes) -> float:
    """mm of lines in a whole text."""
    found = [one for one in replay([rows(text + b"\n")], State()) if isinstance(one, Stretch)]
    return sum(float(np.hypot(*one.delta[one.extruding, :2].T).sum()) for one in found)


def moves(*lines: str) -> bytes:
    return "\n".join(["G28", "M104 S200", "G90", "M83", "G1 X10 Y10 Z0.2 F3000", *lines, "G1 X50 E2", ""]).encode()
