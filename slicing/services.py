"""Take in models and G-code; slice."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings as django_settings
from django.core.files import File
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction

from farm.errors import Invalid, TooLarge
from farm.models import User
from slicing import presets
from slicing.engines import version
from slicing.engines.base import SliceResult, SliceSettings, SlicingError
from slicing.layering import packed
from slicing.making import Work, make, site
from slicing.models import Gcode, Model3D, PrinterProfile, ProfileRevision
from slicing.sandbox import WALL_S, facts_of
from slicing.stance import UPRIGHT, stance

log = structlog.get_logger(__name__)

MODEL_KINDS = ("stl", "obj", "3mf")
GCODE_KINDS = ("gcode", "gco", "g", "bgcode")
#: bytes of G-code that are surely read in a second, also by a small machine
READING_SPEED = 3_000_000
#: bytes of a file of settings
MOST_TEXT = 20_000_000

#: control characters, and marks that make a name read otherwise than it is
_UNSEEN = re.compile(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]")


# -- taking files in
def clean_name(name: str) -> str:
    """What people see of a file's name: one line, no folders, at most 200 characters. Never used as a path."""
    shown = _UNSEEN.sub("", name.replace("\\", "/").rsplit("/", 1)[-1]).strip()
    stem, dot, suffix = shown.rpartition(".")
    return f"{stem[:190]}{dot}{suffix[:9]}" if dot else shown[:200]


def _kind(name: str, kinds: tuple[str, ...]) -> str:
    kind = Path(name).suffix.lower().lstrip(".")
    if kind not in kinds:
        raise Invalid(
            f"This is not a file the farm knows: give it one of {', '.join('.' + k for k in kinds)}.",
            code="unknown_type",
        )
    return kind


def _check_size(upload: UploadedFile) -> None:
    if not upload.size:
        raise Invalid("The file is empty.", code="empty")
    if upload.size > django_settings.FARM_MAX_UPLOAD:
        raise TooLarge(f"The file is larger than {django_settings.FARM_MAX_UPLOAD // 1_000_000} MB.")


@contextmanager
def _spooled(upload: UploadedFile, suffix: str) -> Iterator[Path]:
    """The upload as a file of a name of ours, for a child process to read."""
    with tempfile.NamedTemporaryFile(dir=django_settings.FILE_UPLOAD_TEMP_DIR, suffix=f".{suffix}") as spool:
        for chunk in upload.chunks():
            spool.write(chunk)
        spool.flush()
        yield Path(spool.name)


@contextmanager
def _folder() -> Iterator[Path]:
    """For what a child process makes of an upload."""
    with tempfile.TemporaryDirectory(dir=django_settings.FILE_UPLOAD_TEMP_DIR) as folder:
        yield Path(folder)


def text_of(upload: UploadedFile) -> str:
    """A small text file. Raises Invalid, TooLarge."""
    _check_size(upload)
    if (upload.size or 0) > MOST_TEXT:
        raise TooLarge(f"The file is larger than {MOST_TEXT // 1_000_000} MB.")
    try:
        return str(upload.read().decode())
    except UnicodeDecodeError:
        raise Invalid("This is not a text file.", field="file") from None


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def accept_model(owner: User, upload: UploadedFile) -> Model3D:
    """Store a model that can be read. Raises Invalid, TooLarge with a sentence for its owner; nothing is kept then."""
    name = clean_name(upload.name or "")
    kind = _kind(name, MODEL_KINDS)
    _check_size(upload)
    with _spooled(upload, kind) as spool, _folder() as made:
        most = str(django_settings.FARM_MAX_TRIANGLES)
        named = ("--name", f"model.{kind}", "--max-triangles", most, "--picture", str(made / "picture.png"))
        facts = facts_of("slicing.mesh", str(spool), *named)
        x, y, z = facts["size_mm"]
        model = Model3D(
            owner=owner,
            name=name,
            kind=kind,
            bytes=upload.size or 0,
            sha256=_sha256(spool),
            size_x=x,
            size_y=y,
            size_z=z,
            triangles=facts["triangles"],
            volume_mm3=facts["volume_mm3"],
            watertight=facts["watertight"],
        )
        _store(model, spool, made / "picture.png")
    return model


def checked_placement(said: Mapping[str, Any]) -> dict[str, Any]:
    """As it is kept; empty when the model stands as in its file. Raises Invalid."""
    try:
        return stance(said).values
    except SlicingError as error:
        raise Invalid(str(error), field="placement") from None


def standing(model: Model3D, placement: Mapping[str, Any]) -> dict[str, Any]:
    """``size_mm`` of a model that stands like that, and ``stands``, ways to put it down, best first: rotation,
    contact_mm2, overhang_mm2, height_mm. Raises Invalid."""
    return facts_of(
        "slicing.standing",
        *(model.file.path, "--name", f"model.{model.kind}"),
        *("--placement", json.dumps(checked_placement(placement))),
        *("--max-triangles", str(django_settings.FARM_MAX_TRIANGLES)),
    )


def placed_size(model: Model3D, placement: Mapping[str, Any]) -> list[float]:
    """mm; of what is turned only its triangles tell. Raises Invalid."""
    stands = stance(checked_placement(placement))
    if stands.rotation == UPRIGHT:
        return [round(side * factor, 4) for side, factor in zip(model.size_mm, stands.scale, strict=True)]
    size: list[float] = standing(model, placement)["size_mm"]
    return size


def accept_gcode(owner: User, upload: UploadedFile, profile: PrinterProfile) -> Gcode:
    """Store G-code that is safe on printers of ``profile``: inside the bed, temperatures and speeds in limits. Binary
    G-code is stored as text, which every printer understands."""
    name = clean_name(upload.name or "")
    kind = _kind(name, GCODE_KINDS)
    _check_size(upload)
    with _spooled(upload, kind) as spool, _folder() as made:
        machine = json.dumps(asdict(profile.machine))
        wanted = ("--machine", machine, "--picture", str(made / "picture.png"), "--text", str(made / "text"))
        facts = facts_of("slicing.gcode", str(spool), *wanted, seconds=WALL_S + (upload.size or 0) // READING_SPEED)
        if (made / "text").exists():
            spool, name = made / "text", f"{Path(name).stem}.gcode"
        gcode = Gcode(
            owner=owner,
            name=name,
            bytes=spool.stat().st_size,
            sha256=_sha256(spool),
            profile=profile,
            profile_revision=profile.revision,
            time_s=facts["time_s"],
            filament_mm=facts["filament_mm"],
            filament_g=facts.get("filament_g"),
            layers=facts["layers"],
            layer_begins=packed(facts.pop("layer_begins")),
            facts=facts,
        )
        _store(gcode, spool, made / "picture.png")
    return gcode


def _store(row: Model3D | Gcode, source: Path, picture: Path) -> None:
    """Files first, then the row; a row that cannot be written leaves no file. There may be no picture."""
    with source.open("rb") as file:
        row.file.save(row.name, File(file), save=False)
    try:
        if picture.exists() and picture.stat().st_size:
            with picture.open("rb") as file:
                row.picture.save(row.name, File(file), save=False)
        row.save(force_insert=True)
    except BaseException:
        row.file.delete(save=False)
        if row.picture:
            row.picture.delete(save=False)
        raise


# -- slicing
def make_settings(
    profile: PrinterProfile,
    overrides: dict[str, Any],
    material: ProfileRevision | None = None,
    quality: ProfileRevision | None = None,
) -> SliceSettings:
    """The settings of a job on a profile, see presets.resolve. Raises Invalid."""
    unknown = sorted(set(overrides) - set(presets.SETTINGS))
    if unknown:
        raise Invalid(f"Unknown settings: {', '.join(unknown)}.", field="settings", known=sorted(presets.SETTINGS))
    recipe = presets.Recipe(
        quality=quality.values if quality else {},
        material=material.values if material else {},
        overrides=overrides,
    )
    try:
        return presets.resolve(profile.machine, profile.settings, recipe)
    except SlicingError as error:
        raise Invalid(str(error), field="settings") from None


def cache_key(model: Model3D, gcode: Gcode, placement: Mapping[str, Any]) -> str:
    """Equal keys mean equal G-code: everything that decides the content of ``gcode``, still without a file."""
    made_for = [str(gcode.profile_id), gcode.profile_revision, gcode.material_id, gcode.quality_id]
    parts = [model.sha256, model.kind, placement, *made_for, gcode.settings, gcode.engine]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cached_gcode(
    model: Model3D,
    profile: PrinterProfile,
    overrides: dict[str, Any],
    material: ProfileRevision | None = None,
    quality: ProfileRevision | None = None,
    placement: Mapping[str, Any] | None = None,
) -> Gcode | None:
    """What is sliced already for exactly this."""
    drafted = _draft(model, profile, make_settings(profile, overrides, material, quality), material, quality, placement)
    return Gcode.objects.filter(cache_key=drafted.cache_key).first()


def _draft(
    model: Model3D,
    profile: PrinterProfile,
    wanted: SliceSettings,
    material: ProfileRevision | None,
    quality: ProfileRevision | None,
    placement: Mapping[str, Any] | None,
) -> Gcode:
    """The row of what is to be sliced, as far as it is known before."""
    gcode = Gcode(
        name=f"{Path(model.name).stem[:190]}.gcode",
        profile=profile,
        profile_revision=profile.revision,
        material=material,
        quality=quality,
        engine=f"{profile.engine} {version(profile.engine, site())}",
        settings=asdict(wanted),
    )
    gcode.cache_key = cache_key(model, gcode, placement or {})
    return gcode


def slice_model(
    model: Model3D,
    profile: PrinterProfile,
    overrides: dict[str, Any],
    progress: Callable[[float], None],
    material: ProfileRevision | None = None,
    quality: ProfileRevision | None = None,
    placement: Mapping[str, Any] | None = None,
) -> Gcode:
    """Slice and check, or take what is there. Runs in a slicing worker: imports numpy. Raises Invalid with a sentence
    for the owner, and whatever ``progress`` raises."""
    found = cached_gcode(model, profile, overrides, material, quality, placement)
    if found is not None:
        return found
    wanted = make_settings(profile, overrides, material, quality)
    gcode = _draft(model, profile, wanted, material, quality, placement)
    stands = stance(placement or {})
    with _folder() as made:
        out, picture = made / "out.gcode", made / "picture.png"
        work = Work(
            models=[(Path(model.file.path), f"model.{model.kind}")],
            profile=profile,
            settings=wanted,
            material=material.name if material else "",
            out=out,
            picture=_kept_picture(model) if stands.as_it_is else None,
            stance=stands,
        )
        try:
            result = make(work, progress)
        except SlicingError as error:
            raise Invalid(str(error), code="not_sliced") from error
        picture.write_bytes(result.picture)
        return _keep_gcode(gcode, result.result, out, picture)


def _kept_picture(model: Model3D) -> bytes | None:
    kept = Path(model.picture.path) if model.picture else None
    return kept.read_bytes() if kept and kept.exists() else None


def _keep_gcode(gcode: Gcode, result: SliceResult, out: Path, picture: Path) -> Gcode:
    from slicing.gcode import facts as read_facts

    gcode.bytes = out.stat().st_size
    gcode.sha256 = _sha256(out)
    gcode.time_s, gcode.layers = result.time_s, result.layers
    gcode.filament_mm, gcode.filament_g = result.filament_mm, result.filament_g
    found = read_facts(out)
    gcode.layer_begins = packed(found.pop("layer_begins"))
    gcode.facts = {**found, "bounds": result.bounds, **result.facts}  # the same as of uploads, and more
    try:
        with transaction.atomic():
            _store(gcode, out, picture)
    except IntegrityError:  # another worker sliced the very same at the same time
        return Gcode.objects.get(cache_key=gcode.cache_key)
    return gcode
