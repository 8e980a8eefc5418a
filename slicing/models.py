"""Models people uploaded, the printer profiles they are sliced for, and the G-code that came out."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from slicing.engines.base import Machine

#: names are only ever shown: no control characters, no direction marks that make them read otherwise
shown_name = RegexValidator(
    r"^[^\x00-\x1f\x7f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+$", "A name is one line of visible characters."
)


def within(low: float, high: float) -> list[Any]:
    return [MinValueValidator(low), MaxValueValidator(high)]


def blob_path(instance: models.Model, filename: str) -> str:
    """A file is stored under its row's id: a user's file name is never part of a path."""
    folder = instance._meta.model_name or "file"
    return f"{folder}/{str(instance.pk)[:2]}/{instance.pk}{getattr(instance, 'stored_suffix', '')}"


def picture_path(instance: models.Model, filename: str) -> str:
    """A picture lies beside the file that it shows."""
    folder = instance._meta.model_name or "file"
    return f"{folder}/{str(instance.pk)[:2]}/{instance.pk}.png"


class PrinterProfile(models.Model):
    """What a kind of machine is: the only home of machine facts. Lengths in mm, temperatures in degrees C, speeds
    in mm/s, accelerations in mm/s2. Every change makes a new ``revision``: G-code belongs to one."""

    class Flavour(models.TextChoices):
        MARLIN = "marlin", "Marlin"
        KLIPPER = "klipper", "Klipper"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True, validators=[shown_name])
    revision = models.PositiveIntegerField(default=1, editable=False)
    is_default = models.BooleanField(default=False, help_text="Given to printers that name no other")
    width = models.FloatField(default=220, validators=within(20, 2000), help_text="Printable x, mm")
    depth = models.FloatField(default=220, validators=within(20, 2000), help_text="Printable y, mm")
    height = models.FloatField(default=250, validators=within(20, 2000), help_text="Printable z, mm")
    origin_x = models.FloatField(default=0, validators=within(-2000, 2000), help_text="Front left corner, mm")
    origin_y = models.FloatField(default=0, validators=within(-2000, 2000), help_text="Front left corner, mm")
    nozzle_diameter = models.FloatField(default=0.4, validators=within(0.1, 2))
    filament_diameter = models.FloatField(default=1.75, validators=within(1, 3.5))
    flavour = models.CharField(max_length=10, choices=Flavour, default=Flavour.MARLIN)
    max_nozzle_temperature = models.FloatField(default=285, validators=within(100, 500))
    max_bed_temperature = models.FloatField(default=110, validators=within(0, 200))
    start_gcode = models.TextField(blank=True, help_text="Empty: heat, home and prime in the usual way")
    end_gcode = models.TextField(blank=True, help_text="Empty: heaters off, lift, park, motors off")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_profile"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def machine(self) -> Machine:
        """This revision as the engines know it."""
        return Machine(
            name=self.name,
            size=(self.width, self.depth, self.height),
            origin=(self.origin_x, self.origin_y),
            nozzle_diameter=self.nozzle_diameter,
            filament_diameter=self.filament_diameter,
            flavour=self.flavour,
            max_nozzle_temperature=self.max_nozzle_temperature,
            max_bed_temperature=self.max_bed_temperature,
            start_gcode=self.start_gcode,
            end_gcode=self.end_gcode,
        )


class Model3D(models.Model):
    """An uploaded model that was read without fault. Sizes in mm, volume in mm3."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="models_3d")
    name = models.CharField(max_length=200, validators=[shown_name])
    file = models.FileField(upload_to=blob_path, max_length=200)
    kind = models.CharField(max_length=4, help_text="stl, obj or 3mf")
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64, db_index=True)
    size_x = models.FloatField()
    size_y = models.FloatField()
    size_z = models.FloatField()
    triangles = models.PositiveIntegerField()
    volume_mm3 = models.FloatField()
    watertight = models.BooleanField()
    picture = models.FileField(upload_to=picture_path, max_length=200, blank=True, help_text="PNG; empty: none")
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "model"

    def __str__(self) -> str:
        return self.name

    @property
    def size_mm(self) -> list[float]:
        return [self.size_x, self.size_y, self.size_z]


class Gcode(models.Model):
    """A G-code file that passed the checks of one profile revision: sliced here (with ``cache_key``) or uploaded."""

    stored_suffix = ".gcode"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    #: None: sliced here, and shared by every job that asks for the very same
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="gcodes")
    name = models.CharField(max_length=200, validators=[shown_name])
    file = models.FileField(upload_to=blob_path, max_length=200)
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    profile = models.ForeignKey(PrinterProfile, on_delete=models.PROTECT, related_name="gcodes")
    profile_revision = models.PositiveIntegerField()
    #: hash of everything that decides the content; empty for uploads
    cache_key = models.CharField(max_length=64, blank=True)
    time_s = models.FloatField(help_text="Estimated print time, s")
    filament_mm = models.FloatField()
    filament_g = models.FloatField(null=True)
    layers = models.PositiveIntegerField()
    facts = models.JSONField(default=dict)
    picture = models.FileField(upload_to=picture_path, max_length=200, blank=True, help_text="PNG; empty: none")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "G-code"
        constraints = [
            models.UniqueConstraint(
                fields=["cache_key"], condition=~models.Q(cache_key=""), name="one_gcode_per_cache_key"
            )
        ]

    def __str__(self) -> str:
        return self.name
