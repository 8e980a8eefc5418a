"""Take in models and G-code, keep printer profiles, slice."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings as django_settings
from django.core.files import File
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.db.models import F

from farm.errors import Invalid, TooLarge, Unavailable
from farm.models import User
from slicing.engines import VERSIONS
from slicing.engines.base import SliceResult, SliceSettings, SlicingError
from slicing.models import Gcode, Model3D, PrinterProfile
from slicing.sandbox import facts_of

log = structlog.get_logger(__name__)

MODEL_KINDS = ("stl", "obj", "3mf")
GCODE_KINDS = ("gcode", "gco", "g")
ENGINE = "planar"

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


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def accept_model(owner: User, upload: UploadedFile) -> Model3D:
    """Store a model that can be read. Raises Invalid, TooLarge with a sentence for its owner; nothing is kept then."""
    name = clean_name(upload.name or "")
    kind = _kind(name, MODEL_KINDS)
    _check_size(upload)
    with _spooled(upload, kind) as spool:
        facts = facts_of(
            "slicing.mesh",
            str(spool),
            "--name",
            f"model.{kind}",
            "--max-triangles",
            str(django_settings.FARM_MAX_TRIANGLES),
        )
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
        _store(model, spool)
    return model


def accept_gcode(owner: User, upload: UploadedFile, profile: PrinterProfile) -> Gcode:
    """Store G-code that is safe on printers of ``profile``: inside the bed, temperatures and speeds in limits."""
    name = clean_name(upload.name or "")
    kind = _kind(name, GCODE_KINDS)
    _check_size(upload)
    with _spooled(upload, kind) as spool:
        facts = facts_of("slicing.gcode", str(spool), "--machine", json.dumps(asdict(profile.machine)))
        gcode = Gcode(
            owner=owner,
            name=name,
            bytes=upload.size or 0,
            sha256=_sha256(spool),
            profile=profile,
            profile_revision=profile.revision,
            time_s=facts["time_s"],
            filament_mm=facts["filament_mm"],
            filament_g=facts.get("filament_g"),
            layers=facts["layers"],
            facts=facts,
        )
        _store(gcode, spool)
    return gcode


def _store(row: Model3D | Gcode, source: Path) -> None:
    """File first, then the row; a row that cannot be written leaves no file."""
    with source.open("rb") as file:
        row.file.save(row.name, File(file), save=False)
    try:
        row.save(force_insert=True)
    except BaseException:
        row.file.delete(save=False)
        raise


# -- profiles
def default_profile() -> PrinterProfile:
    """What a printer is that names no profile. Raises Unavailable."""
    profile = PrinterProfile.objects.filter(is_default=True).first()
    if profile is None:
        raise Unavailable("There is no default printer profile. Mark one as default.")
    return profile


def add_profile(**values: Any) -> PrinterProfile:
    """Raises Invalid (name taken)."""
    try:
        with transaction.atomic():
            return PrinterProfile.objects.create(**values)
    except IntegrityError:
        raise Invalid("There is a profile of that name (or a default one) already.", field="name") from None


def change_profile(profile: PrinterProfile, **values: Any) -> PrinterProfile:
    """A change of what the machine is makes a new revision: G-code made for the old one goes to it no more."""
    changed = {key: value for key, value in values.items() if getattr(profile, key) != value}
    if not changed:
        return profile
    for key, value in changed.items():
        setattr(profile, key, value)
    profile.save(update_fields=list(changed))
    if set(changed) - {"name", "is_default"}:
        PrinterProfile.objects.filter(pk=profile.pk).update(revision=F("revision") + 1)
        profile.refresh_from_db()
    return profile


# -- slicing
def make_settings(profile: PrinterProfile, overrides: dict[str, Any]) -> SliceSettings:
    """The settings of a job on a profile: defaults, what the machine fixes, what the person asked for.

    Raises Invalid for a name we do not know, a value out of range, and a nozzle or filament that is not the machine's.
    """
    known = {f.name for f in fields(SliceSettings)}
    unknown = sorted(set(overrides) - known)
    if unknown:
        raise Invalid(f"Unknown settings: {', '.join(unknown)}.", field="settings", known=sorted(known))
    fixed = {"nozzle_diameter": profile.nozzle_diameter, "filament_diameter": profile.filament_diameter}
    for key, value in fixed.items():
        if key in overrides and overrides[key] != value:
            raise Invalid(f"{key} must be {value:g}: {profile.name} has no other.", field="settings")
    try:
        wanted = SliceSettings(**{**fixed, **overrides})
    except (SlicingError, TypeError, ValueError) as error:
        raise Invalid(str(error), field="settings") from None
    _check_heat(profile, wanted)
    return wanted


def _check_heat(profile: PrinterProfile, wanted: SliceSettings) -> None:
    for part, value, limit in (
        ("nozzle", wanted.nozzle_temperature, profile.max_nozzle_temperature),
        ("bed", wanted.bed_temperature, profile.max_bed_temperature),
    ):
        if value > limit:
            raise Invalid(f"{part}_temperature {value:g} C is above {profile.name}'s {limit:g} C.", field="settings")


def cache_key(model: Model3D, profile: PrinterProfile, settings: SliceSettings, version: str) -> str:
    """Equal keys mean equal G-code: everything that decides the content is in it."""
    parts = [model.sha256, model.kind, str(profile.pk), profile.revision, asdict(settings), ENGINE, version]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cached_gcode(model: Model3D, profile: PrinterProfile, overrides: dict[str, Any]) -> Gcode | None:
    """What is sliced already for exactly this."""
    key = cache_key(model, profile, make_settings(profile, overrides), VERSIONS[ENGINE])
    return Gcode.objects.filter(cache_key=key).first()


def slice_model(
    model: Model3D, profile: PrinterProfile, overrides: dict[str, Any], progress: Callable[[float], None]
) -> Gcode:
    """Slice and check, or take what is there. Runs in a slicing worker: imports numpy. Raises Invalid with a sentence
    for the owner, and whatever ``progress`` raises."""
    found = cached_gcode(model, profile, overrides)
    if found is not None:
        return found
    wanted = make_settings(profile, overrides)
    with tempfile.NamedTemporaryFile(dir=django_settings.FILE_UPLOAD_TEMP_DIR, suffix=".gcode") as spool:
        out = Path(spool.name)
        try:
            result = _run_engine(model, profile, wanted, out, progress)
        except SlicingError as error:
            raise Invalid(str(error), code="not_sliced") from error
        return _keep_gcode(model, profile, result, out, cache_key(model, profile, wanted, VERSIONS[ENGINE]))


def _run_engine(
    model: Model3D, profile: PrinterProfile, wanted: SliceSettings, out: Path, progress: Callable[[float], None]
) -> SliceResult:
    from slicing.engines import engine
    from slicing.engines.replay import check
    from slicing.mesh import Limits, MeshError, read_mesh

    slicer = engine(ENGINE)
    try:
        mesh = read_mesh(
            Path(model.file.path), f"model.{model.kind}", Limits(max_triangles=django_settings.FARM_MAX_TRIANGLES)
        )
    except MeshError as error:
        raise SlicingError(str(error)) from error
    result = slicer.slice(mesh, profile.machine, wanted, out, progress)
    check(out, profile.machine, wanted, result)
    return result


def _keep_gcode(model: Model3D, profile: PrinterProfile, result: SliceResult, out: Path, key: str) -> Gcode:
    gcode = Gcode(
        name=f"{Path(model.name).stem[:190]}.gcode",
        bytes=out.stat().st_size,
        sha256=_sha256(out),
        profile=profile,
        profile_revision=profile.revision,
        cache_key=key,
        time_s=result.time_s,
        filament_mm=result.filament_mm,
        filament_g=result.filament_g,
        layers=result.layers,
        facts={"bounds": result.bounds, **result.facts},
    )
    try:
        with transaction.atomic():
            _store(gcode, out)
    except IntegrityError:  # another worker sliced the very same at the same time
        return Gcode.objects.get(cache_key=key)
    return gcode
