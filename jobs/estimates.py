"""Slice ahead: what a print would take, before it is sent. Sending then costs nothing: the G-code is kept (see
slicing.services.cache_key).

A person has one estimate at a time; whoever asks for another one takes the first back. It lives in Redis, as long as
somebody may look at it: what is forgotten is asked for again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
from django.db.models import Exists, OuterRef, ProtectedError
from django.db.models.functions import Now

from farm.errors import FarmError, NotFound
from farm.models import User
from farm.queue import enqueue
from jobs import preparing, services
from jobs.models import Job, Print
from printers import telemetry
from slicing.models import Gcode, Model3D, PrinterProfile
from slicing.services import cached_gcode

#: s that an estimate is kept after its last change, and that its G-code is kept for whoever sends it
KEPT_S = 3600
#: a model that killed that many workers is not tried again
MOST_ATTEMPTS = 2
STOPPED = "Slicing this model stopped the slicer. Ask the staff to look."
SLICING, DONE, FAILED = "slicing", "done", "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What was asked for and how far it is. ``message``: why it failed, a sentence for whoever asked."""

    id: str
    model: str
    profile: str
    printer: str | None
    material: int | None
    quality: int | None
    settings: dict[str, Any]
    placement: dict[str, Any]
    status: str = SLICING
    progress: float = 0.0
    message: str = ""
    gcode: str | None = None
    attempts: int = 0

    def same_as(self, other: Estimate) -> bool:
        asked = ("model", "profile", "printer", "material", "quality", "settings", "placement")
        return all(getattr(self, name) == getattr(other, name) for name in asked)


def _key(owner_id: Any) -> str:
    return f"farm:estimate:{owner_id}"


def _put(owner_id: Any, estimate: Estimate) -> None:
    telemetry.client().set(_key(owner_id), orjson.dumps(asdict(estimate)), ex=KEPT_S)


def _get(owner_id: Any) -> Estimate | None:
    said = telemetry.client().get(_key(owner_id))
    return Estimate(**orjson.loads(said)) if said else None


# -- asking
def ask(owner: User, model: Model3D, **wanted: Any) -> Estimate:
    """Begin to slice (see services.draft for what may be ``wanted``), or take what is there. Raises what submitting it
    would raise."""
    job = services.draft(owner, model=model, **wanted)
    profile = preparing.first_fitting(job)
    estimate = Estimate(
        id=str(uuid4()),
        model=str(model.pk),
        profile=str(profile.pk),
        printer=str(job.printer_id) if job.printer_id else None,
        material=job.material_id,
        quality=job.quality_id,
        settings=job.settings,
        placement=job.placement,
    )
    before = _get(owner.pk)
    if before is not None and before.status == SLICING and before.same_as(estimate):
        return before
    there = cached_gcode(model, profile, job.settings, job.material, job.quality, job.placement)
    if there is not None:
        estimate = replace(estimate, status=DONE, progress=1.0, gcode=str(there.pk))
    _put(owner.pk, estimate)
    if there is None:
        enqueue("jobs.estimate", owner.pk, estimate.id)
    return estimate


def of(owner: User, model: Model3D) -> Estimate | None:
    """What this person asked for last of this model."""
    found = _get(owner.pk)
    return found if found is not None and found.model == str(model.pk) else None


def stop(owner: User) -> None:
    """Nobody waits for it any more."""
    telemetry.client().delete(_key(owner.pk))


def gcode_of(estimate: Estimate | None) -> Gcode:
    """Raises NotFound while there is none."""
    pk = estimate.gcode if estimate else None
    found = Gcode.objects.select_related("profile").filter(pk=pk).first() if pk else None
    if found is None:
        raise NotFound("This is not sliced yet.", code="not_sliced")
    return found


def as_job(owner: User, model: Model3D, estimate: Estimate, gcode: Gcode | None = None) -> Job:
    """What would be sent; it is stored nowhere."""
    return Job(
        owner=owner,
        name=model.name,
        model=model,
        gcode=gcode,
        printer_id=UUID(estimate.printer) if estimate.printer else None,
        material_id=estimate.material,
        quality_id=estimate.quality,
        settings=estimate.settings,
        placement=estimate.placement,
    )


def forget_unused() -> None:
    """Delete what was sliced ahead and never sent."""
    long_ago = Now() - timedelta(days=1)
    unused = Gcode.objects.filter(
        ~Exists(Job.objects.filter(gcode=OuterRef("pk"))),
        ~Exists(Print.objects.filter(gcode=OuterRef("pk"))),
        owner=None,
        created_at__lt=long_ago,
    )
    for gcode in unused[:100]:
        with suppress(ProtectedError):  # it was sent just now
            gcode.delete()
            for kept in (gcode.file, gcode.picture):
                if kept.name:
                    kept.storage.delete(kept.name)


# -- slicing
def work(owner_id: str, estimate_id: str) -> None:
    """In a slicing worker. Repeating is harmless; what is no longer wanted ends at once."""
    estimate = _get(owner_id)
    model = Model3D.objects.select_related("owner").filter(pk=estimate.model).first() if estimate else None
    owner = User.objects.filter(pk=owner_id).first()
    if estimate is None or estimate.id != estimate_id or estimate.status != SLICING or not (model and owner):
        return
    if estimate.attempts >= MOST_ATTEMPTS:
        _say(owner_id, estimate_id, status=FAILED, message=STOPPED)
        return
    _say(owner_id, estimate_id, attempts=estimate.attempts + 1)
    try:
        profile = PrinterProfile.objects.get(pk=estimate.profile)
        job = as_job(owner, model, estimate)
        gcode = preparing.slice_for(job, profile, _Progress(owner_id, estimate_id))
    except preparing.Cancelled:
        return
    except (FarmError, PrinterProfile.DoesNotExist) as error:
        why = error.message if isinstance(error, FarmError) else "This printer is gone. Choose another one."
        _say(owner_id, estimate_id, status=FAILED, message=why)
        return
    _say(owner_id, estimate_id, status=DONE, progress=1.0, gcode=str(gcode.pk))


def _say(owner_id: str, estimate_id: str, **changes: Any) -> bool:
    """Whether it is still this one that is wanted."""
    now = _get(owner_id)
    if now is None or now.id != estimate_id:
        return False
    _put(owner_id, replace(now, **changes))
    return True


@dataclass(frozen=True, slots=True)
class _Progress:
    owner_id: str
    estimate_id: str

    def __call__(self, progress: float) -> bool:
        return _say(self.owner_id, self.estimate_id, progress=progress)
