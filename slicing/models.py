"""Models people uploaded, the printer profiles they are sliced for, and the G-code that came out."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

from slicing import presets
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


class Profile(models.Model):
    """What printers, materials and qualities have in common. Every change of what decides a print makes a new
    ``revision``, kept as a ProfileRevision, so that a print can be repeated and explained."""

    #: of ProfileRevision
    kind: ClassVar[str]
    #: what may change without a new revision: it decides nothing of a print
    LABELS: ClassVar[frozenset[str]] = frozenset({"name", "is_default", "groups", "note"})

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True, validators=[shown_name])
    revision = models.PositiveIntegerField(default=1, editable=False)
    is_default = models.BooleanField(default=False)
    #: nobody named: for everybody
    groups = models.ManyToManyField(Group, blank=True, help_text="Only these groups see it; none: everybody")
    note = models.CharField(max_length=200, blank=True, help_text="What it is good for, in a few words")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name

    @property
    def values(self) -> dict[str, Any]:
        """What a revision keeps, JSON-safe."""
        raise NotImplementedError


class ProfileRevision(models.Model):
    """The values of one revision of a profile, frozen. It outlives the profile: jobs and G-code name it."""

    class Kind(models.TextChoices):
        PRINTER = "printer"
        MATERIAL = "material"
        QUALITY = "quality"

    kind = models.CharField(max_length=10, choices=Kind)
    #: not a foreign key: one of three tables, and the profile may be deleted
    profile_id = models.UUIDField()
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=80)
    values = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["kind", "name", "-number"]
        constraints = [models.UniqueConstraint(fields=["profile_id", "number"], name="one_row_per_revision")]

    def __str__(self) -> str:
        return f"{self.name} (revision {self.number})"


class PrinterProfile(Profile):
    """What a kind of machine is: the only home of machine facts. Lengths in mm, temperatures in degrees C, speeds
    in mm/s, accelerations in mm/s2. Every change makes a new ``revision``: G-code belongs to one."""

    class Flavour(models.TextChoices):
        MARLIN = "marlin", "Marlin"
        KLIPPER = "klipper", "Klipper"

    class SlicedBy(models.TextChoices):
        PLANAR = "planar", "Built in"
        PRUSASLICER = "prusaslicer", "PrusaSlicer"
        CURA = "cura", "CuraEngine"

    kind = ProfileRevision.Kind.PRINTER
    #: another engine makes other G-code, but the machine is the same: what was made for it still is
    LABELS = Profile.LABELS | {"engine"}

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
    max_speed_x = models.FloatField(default=300, validators=within(1, 2000), help_text="mm/s")
    max_speed_y = models.FloatField(default=300, validators=within(1, 2000), help_text="mm/s")
    max_speed_z = models.FloatField(default=12, validators=within(1, 500), help_text="mm/s")
    max_speed_e = models.FloatField(default=60, validators=within(1, 500), help_text="Filament, mm/s")
    max_acceleration_x = models.FloatField(default=1500, validators=within(10, 100_000), help_text="mm/s2")
    max_acceleration_y = models.FloatField(default=1500, validators=within(10, 100_000), help_text="mm/s2")
    max_acceleration_z = models.FloatField(default=200, validators=within(10, 100_000), help_text="mm/s2")
    max_acceleration_e = models.FloatField(default=5000, validators=within(10, 100_000), help_text="mm/s2")
    acceleration = models.FloatField(default=1000, validators=within(10, 100_000), help_text="While printing, mm/s2")
    jerk_x = models.FloatField(default=8, validators=within(0, 100), help_text="mm/s; Klipper: square_corner_velocity")
    jerk_y = models.FloatField(default=8, validators=within(0, 100), help_text="mm/s; Klipper: square_corner_velocity")
    jerk_z = models.FloatField(default=0.4, validators=within(0, 100), help_text="mm/s")
    jerk_e = models.FloatField(default=2.5, validators=within(0, 100), help_text="mm/s")
    start_gcode = models.TextField(blank=True, help_text="Empty: heat, home and prime in the usual way")
    end_gcode = models.TextField(blank=True, help_text="Empty: heaters off, lift, park, motors off")
    #: of presets.PRINTER_FIELDS: what is usual on it, for qualities that say nothing else
    settings = models.JSONField(default=dict, blank=True)
    engine = models.CharField(max_length=20, choices=SlicedBy, default=SlicedBy.PLANAR, help_text="Who slices for it")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_profile"
            )
        ]

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
            max_speed=(self.max_speed_x, self.max_speed_y, self.max_speed_z, self.max_speed_e),
            max_acceleration=(
                self.max_acceleration_x,
                self.max_acceleration_y,
                self.max_acceleration_z,
                self.max_acceleration_e,
            ),
            acceleration=self.acceleration,
            jerk=(self.jerk_x, self.jerk_y, self.jerk_z, self.jerk_e),
            start_gcode=self.start_gcode,
            end_gcode=self.end_gcode,
        )

    @property
    def values(self) -> dict[str, Any]:
        """Every column that decides a print."""
        labels = {"id", "revision", "created_at", *self.LABELS}
        return {f.name: getattr(self, f.name) for f in self._meta.concrete_fields if f.name not in labels}


class Preset(Profile):
    """Values for some settings of a slice (see presets): of a material or a quality."""

    #: names of SliceSettings that it may have
    ALLOWED: ClassVar[tuple[str, ...]]

    settings = models.JSONField(default=dict, blank=True)
    order = models.PositiveSmallIntegerField(default=100, help_text="Lists begin with the lowest")

    LABELS = Profile.LABELS | {"order"}

    class Meta:
        abstract = True

    @property
    def values(self) -> dict[str, Any]:
        return dict(self.settings)


class Material(Preset):
    """A kind of filament: its heat, its flow, its cooling."""

    kind = ProfileRevision.Kind.MATERIAL
    ALLOWED = presets.MATERIAL_FIELDS

    class Meta:
        ordering = ["order", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_material"
            )
        ]


class Quality(Preset):
    """How fine, how strong, in words that everybody knows."""

    kind = ProfileRevision.Kind.QUALITY
    ALLOWED = presets.QUALITY_FIELDS

    class Meta:
        ordering = ["order", "name"]
        verbose_name_plural = "qualities"
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="one_default_quality"
            )
        ]


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
    #: what it was made with, when it was sliced here; None: the engine's defaults
    material = models.ForeignKey(ProfileRevision, null=True, on_delete=models.PROTECT, related_name="of_material")
    quality = models.ForeignKey(ProfileRevision, null=True, on_delete=models.PROTECT, related_name="of_quality")
    #: name and version; empty for uploads
    engine = models.CharField(max_length=60, blank=True)
    #: every setting as it was used
    settings = models.JSONField(default=dict)
    #: hash of everything that decides the content; empty for uploads
    cache_key = models.CharField(max_length=64, blank=True)
    time_s = models.FloatField(help_text="Estimated print time, s")
    filament_mm = models.FloatField()
    filament_g = models.FloatField(null=True)
    layers = models.PositiveIntegerField()
    #: at which parts of the file they begin, see slicing.layering; empty: not known
    layer_begins = models.BinaryField(default=b"", editable=False)
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
