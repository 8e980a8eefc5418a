"""Keep printer profiles, materials and qualities: who sees them, what they may say, every revision of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from farm.errors import Invalid, NotFound, Unavailable
from farm.models import User
from slicing import presets, prusaini
from slicing.engines import templates
from slicing.engines.base import SlicingError
from slicing.models import Material, Preset, PrinterProfile, Profile, ProfileRevision, Quality

AnyProfile = TypeVar("AnyProfile", bound=Profile)

PROFILES: dict[str, type[PrinterProfile | Material | Quality]] = {
    ProfileRevision.Kind.PRINTER: PrinterProfile,
    ProfileRevision.Kind.MATERIAL: Material,
    ProfileRevision.Kind.QUALITY: Quality,
}
WORDS: dict[str, str] = {
    ProfileRevision.Kind.PRINTER: "printer profile",
    ProfileRevision.Kind.MATERIAL: "material",
    ProfileRevision.Kind.QUALITY: "quality",
}


# -- who sees what
def visible(user: User, model: type[AnyProfile]) -> QuerySet[AnyProfile]:
    """What is for everybody and for this person's groups; staff see all."""
    rows: QuerySet[AnyProfile] = model._default_manager.all()
    if user.is_staff and user.is_active:
        return rows
    mine = user.groups.values("pk")
    return rows.filter(Q(groups=None) | Q(groups__in=mine)).distinct()


def get(user: User, model: type[AnyProfile], pk: Any) -> AnyProfile:
    """Raises NotFound when it is not there, or not for this person."""
    try:
        found = visible(user, model).filter(pk=UUID(str(pk))).first()
    except ValueError:
        found = None
    if found is None:
        raise NotFound(f"There is no such {WORDS[model.kind]}, or you may not see it.")
    return found


def default_profile() -> PrinterProfile:
    """What a printer is that names no profile. Raises Unavailable."""
    profile = PrinterProfile.objects.filter(is_default=True).first()
    if profile is None:
        raise Unavailable("There is no default printer profile. Mark one as default.")
    return profile


def chosen(user: User, model: type[AnyProfile], pk: Any) -> ProfileRevision | None:
    """The present revision of what was asked for; of the default when nothing was; None when there is no default.

    Raises NotFound.
    """
    if pk:
        return latest(get(user, model, pk))
    default = visible(user, model).filter(is_default=True).first()
    return latest(default) if default else None


# -- writing
def add_profile(model: type[AnyProfile], **values: Any) -> AnyProfile:
    """A new one, with its first revision. Raises Invalid (name taken, values that make no sense)."""
    groups = values.pop("groups", ())
    row = model(**values)
    _check(row)
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            row.groups.set(groups)
            _freeze(row)
    except IntegrityError:
        raise Invalid(
            f"There is a {WORDS[model.kind]} of that name (or a default one) already.", field="name"
        ) from None
    return row


def change_profile(profile: AnyProfile, **values: Any) -> AnyProfile:
    """A change of what decides a print makes a new revision: G-code made for an old machine goes to it no more.

    Raises Invalid.
    """
    groups = values.pop("groups", None)
    changed = {key: value for key, value in values.items() if getattr(profile, key) != value}
    for key, value in changed.items():
        setattr(profile, key, value)
    _check(profile)
    try:
        with transaction.atomic():
            if groups is not None:
                profile.groups.set(groups)
            if changed:
                profile.save(update_fields=list(changed))
            if set(changed) - profile.LABELS:
                type(profile)._default_manager.filter(pk=profile.pk).update(revision=F("revision") + 1)
                profile.refresh_from_db()
                _freeze(profile)
    except IntegrityError:
        raise Invalid(
            f"There is a {WORDS[profile.kind]} of that name (or a default one) already.", field="name"
        ) from None
    return profile


def make_default(profile: Profile) -> None:
    """In place of the one that was."""
    with transaction.atomic():
        type(profile)._default_manager.filter(is_default=True).update(is_default=False)
        type(profile)._default_manager.filter(pk=profile.pk).update(is_default=True)
    profile.refresh_from_db()


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file of another slicer's settings: new rows with what was left out of each, sentences about
    the profiles that were not taken."""

    made: list[tuple[Profile, prusaini.Draft]]
    refused: list[str]


@transaction.atomic
def import_ini(text: str, with_code: bool) -> Imported:
    """New profiles from PrusaSlicer's ini (see prusaini). ``with_code`` only for people who may operate printers.

    Raises Invalid when there is nothing to take.
    """
    try:
        drafts, refused = prusaini.read(text, with_code)
    except SlicingError as error:
        raise Invalid(str(error), field="file") from None
    made: list[tuple[Profile, prusaini.Draft]] = []
    for draft in drafts:
        model = PROFILES[draft.kind]
        try:
            row = model(name=_free_name(model, draft.name), settings=draft.settings, **draft.values)
            row.full_clean()
            values = {**draft.values, "settings": draft.settings, "note": "Taken over from PrusaSlicer"}
            made.append((add_profile(model, name=row.name, **values), draft))
        except ValidationError as error:
            refused.append(f"{draft.name}: {' '.join(error.messages)}")
        except Invalid as error:
            refused.append(f"{draft.name}: {error.message}")
    return Imported(made, refused)


def _free_name(model: type[Profile], wanted: str) -> str:
    taken = set(model._default_manager.filter(name__startswith=wanted[:74]).values_list("name", flat=True))
    names = itertools.chain([wanted], (f"{wanted[:74]} ({n})" for n in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _freeze(profile: Profile) -> ProfileRevision:
    return ProfileRevision.objects.create(
        kind=profile.kind,
        profile_id=profile.pk,
        number=profile.revision,
        name=profile.name,
        values=profile.values,
    )


def latest(profile: Profile) -> ProfileRevision:
    """The row of its present revision."""
    return ProfileRevision.objects.get(profile_id=profile.pk, number=profile.revision)


def revisions(profile: Profile) -> QuerySet[ProfileRevision]:
    """All that is kept of it, newest first."""
    return ProfileRevision.objects.filter(profile_id=profile.pk).order_by("-number")


def _check(profile: Profile) -> None:
    """What cannot be said by one column's validators alone. Raises Invalid."""
    allowed = profile.ALLOWED if isinstance(profile, Preset) else presets.PRINTER_FIELDS
    settings: Any = getattr(profile, "settings")  # noqa: B009 - both kinds have it, their common base does not
    if not isinstance(settings, dict):
        raise Invalid("Settings are an object of names and values.", field="settings")
    try:
        presets.checked(settings, allowed)
    except SlicingError as error:
        raise Invalid(str(error), field="settings") from None
    if isinstance(profile, PrinterProfile):
        _check_code(profile)


def _check_code(profile: PrinterProfile) -> None:
    for field in ("start_gcode", "end_gcode"):
        try:
            templates.check(getattr(profile, field))
        except SlicingError as error:
            raise Invalid(str(error), field=field) from None
