"""Forms of the admin for profiles: one field for each setting that a profile may have, with its unit and range."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminFileFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldBooleanSwitchWidget,
)

from slicing import presets
from slicing.engines import templates
from slicing.engines.base import SlicingError
from slicing.models import Material, PrinterProfile, Profile, Quality

PREFIX = "setting_"


class ProfileForm(forms.ModelForm):
    """Of one kind of profile: see `form_of`. An empty setting is not said: what lies below it decides."""

    allowed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        instance = kwargs.get("instance")
        said = instance.settings if instance else {}
        kwargs["initial"] = {**{PREFIX + key: value for key, value in said.items()}, **(kwargs.get("initial") or {})}
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for field in ("start_gcode", "end_gcode"):
            if field in cleaned:
                self._refuse(field, lambda field=field: templates.check(cleaned[field]))
        self._refuse(None, lambda: presets.checked(self.said(), self.allowed))
        return cleaned

    def _refuse(self, field: str | None, check: Any) -> None:
        try:
            check()
        except SlicingError as error:
            self.add_error(field, ValidationError(str(error)))

    def said(self) -> dict[str, Any]:
        """The settings that were filled in."""
        values = {name: self.cleaned_data.get(PREFIX + name) for name in self.allowed}
        return {name: value for name, value in values.items() if value not in (None, "")}

    def values(self) -> dict[str, Any]:
        """What the services take."""
        own = {name: value for name, value in self.cleaned_data.items() if not name.startswith(PREFIX)}
        own.pop("groups", None)
        return {**own, "settings": self.said()}


class TakeOverForm(forms.Form):
    """A file of PrusaSlicer's settings."""

    file = forms.FileField(
        label="Config of PrusaSlicer",
        widget=UnfoldAdminFileFieldWidget,
        help_text="A config bundle or an ini (File, Export), or a G-code file that it made.",
    )
    gcode = forms.BooleanField(
        label="With start and end G-code",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="What has variables that the farm does not know is refused.",
    )


def form_of(model: type[Profile], allowed: tuple[str, ...]) -> type[ProfileForm]:
    fields: dict[str, Any] = {PREFIX + name: _field(name) for name in allowed}
    meta = type("Meta", (), {"model": model, "exclude": ("settings",)})
    return type(f"{model.__name__}Form", (ProfileForm,), {**fields, "allowed": allowed, "Meta": meta})


def _field(name: str) -> forms.Field:
    meta = presets.SETTINGS[name].metadata
    default = presets.SETTINGS[name].default
    label = name.replace("_", " ").capitalize()
    if options := meta.get("options"):
        choices = [("", "not said"), *((option, _word(option)) for option in options)]
        return forms.TypedChoiceField(
            label=label, required=False, choices=choices, coerce=_option(options), empty_value=None,
            help_text=meta["meaning"], widget=UnfoldAdminSelectWidget,
        )  # fmt: skip
    whole = isinstance(default, int)
    kind: Any = forms.IntegerField if whole else forms.FloatField
    widget: Any = UnfoldAdminIntegerFieldWidget if whole else UnfoldAdminDecimalFieldWidget
    field: forms.Field = kind(
        label=f"{label}, {meta['unit']}" if meta["unit"] else label,
        required=False,
        min_value=meta["low"],
        max_value=meta["high"],
        help_text=f"{meta['meaning']}. {meta['low']:g} to {meta['high']:g}.",
        widget=widget(attrs={"step": 1 if whole else "any", "placeholder": f"{default:g}, if nothing else is said"}),
    )
    return field


def _word(option: Any) -> str:
    return {True: "yes", False: "no"}.get(option, str(option)) if isinstance(option, bool) else str(option)


def _option(options: tuple[Any, ...]) -> Any:
    """From the text of a form to the option that it stands for."""
    return {str(option): option for option in options}.__getitem__


PrinterProfileForm = form_of(PrinterProfile, presets.PRINTER_FIELDS)
MaterialForm = form_of(Material, presets.MATERIAL_FIELDS)
QualityForm = form_of(Quality, presets.QUALITY_FIELDS)
