"""What people want printed, every attempt at it, and everything that happened."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from jobs.states import JOB_TERMINAL, PRINT_LIVE, JobStatus, PrintStatus
from printers.models import BedClear, Printer
from slicing.models import Gcode, Model3D, PrinterProfile, ProfileRevision, shown_name


def protect_open_jobs(collector: Any, field: Any, rows: Any, using: str) -> None:
    """When a printer is removed: jobs that ended keep their history without it; one that waits for it forbids it."""
    waiting = [row for row in rows if row.status not in JOB_TERMINAL]
    if waiting:
        raise models.ProtectedError("Jobs that have not ended ask for this printer.", set(waiting))
    models.SET_NULL(collector, field, rows, using)


class Job(models.Model):
    """``copies`` of a model or of a G-code file, on one named printer or any that fits."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="jobs")
    #: what people call it: the file's name; shown, never used as a path
    name = models.CharField(max_length=200, validators=[shown_name])
    model = models.ForeignKey(Model3D, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    #: uploaded G-code, or what ``model`` was sliced to first
    gcode = models.ForeignKey(Gcode, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs")
    #: None: any that fits
    printer = models.ForeignKey(Printer, null=True, blank=True, on_delete=protect_open_jobs, related_name="wanted_by")
    #: of a model: what it is printed with, as it was when it was submitted; None: the engine's defaults
    material = models.ForeignKey(
        ProfileRevision, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs_of_material"
    )
    quality = models.ForeignKey(
        ProfileRevision, null=True, blank=True, on_delete=models.PROTECT, related_name="jobs_of_quality"
    )
    #: how the model stands: scale and rotation, see slicing.stance; empty: as in its file
    placement = models.JSONField(default=dict, blank=True)
    #: of the model as it stands, [x, y, z]; None: as in its file
    placed_size = models.JSONField(null=True, blank=True, editable=False)
    #: what its owner changed of these
    settings = models.JSONField(default=dict, blank=True)
    copies = models.PositiveSmallIntegerField(default=1, validators=[MinValueValidator(1), MaxValueValidator(100)])
    hold = models.BooleanField(default=False, help_text="Ready, but started later by hand")
    status = models.CharField(max_length=20, choices=JobStatus, default=JobStatus.PREPARING, db_index=True)
    #: why it waits, or how it ended: one sentence for its owner
    message = models.CharField(max_length=500, blank=True)
    #: 0..1 while it is being sliced
    slice_progress = models.FloatField(default=0)
    cancel_requested = models.BooleanField(default=False)
    #: counts claims of its copies: two schedulers that saw the same number cannot both claim
    claims = models.PositiveIntegerField(default=0, editable=False)
    #: a slicing worker has it until then (the database's clock); how many have begun
    worker_until = models.DateTimeField(null=True, editable=False)
    slice_attempts = models.PositiveSmallIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(model__isnull=False) | Q(gcode__isnull=False), name="job_has_something_to_print"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def size_mm(self) -> tuple[float, float, float] | None:
        """Of the model as it stands; None for G-code."""
        if self.model is None:
            return None
        x, y, z = self.placed_size or self.model.size_mm
        return x, y, z


class Print(models.Model):
    """One attempt on one printer: the history."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="prints")
    printer = models.ForeignKey(Printer, null=True, on_delete=models.SET_NULL, related_name="prints")
    #: kept when the printer is removed
    printer_name = models.CharField(max_length=80)
    #: None: still to be sliced for this printer
    gcode = models.ForeignKey(Gcode, null=True, on_delete=models.PROTECT, related_name="prints")
    #: the clear this print used up: the database allows one start for each
    bed_clear = models.OneToOneField(BedClear, null=True, on_delete=models.SET_NULL, related_name="print")
    #: as asked for, unique for every attempt; empty until the upload begins
    remote_name = models.CharField(max_length=120, blank=True)
    #: as the printer calls it
    remote_path = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=12, choices=PrintStatus, default=PrintStatus.UPLOADING)
    message = models.CharField(max_length=500, blank=True)
    progress = models.FloatField(default=0)
    #: a transfer worker has it until then (the database's clock)
    worker_until = models.DateTimeField(null=True)
    worker = models.CharField(max_length=64, blank=True)
    #: how many have begun
    workers = models.PositiveSmallIntegerField(default=0, editable=False)
    #: whether it used up a copy: False when it provably never started
    spent = models.BooleanField(default=True)
    #: whether the file is known to be gone from the printer again
    file_deleted = models.BooleanField(default=False)
    filament_mm = models.FloatField(null=True)
    #: the printer did not say how much (OctoPrint never does): worked out from the G-code
    filament_estimated = models.BooleanField(default=False)
    duration_s = models.FloatField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)
    #: when `starting` was committed; plastic may be on the bed from then on
    start_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["printer"],
                condition=Q(status__in=[s.value for s in PRINT_LIVE]),
                name="one_live_print_per_printer",
            ),
            models.UniqueConstraint(
                fields=["remote_name"], condition=~Q(remote_name=""), name="remote_names_are_unique"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job} on {self.printer_name}"

    @property
    def file_on_printer(self) -> str:
        """What to delete there: its path, or the name that was asked for while it is not known how the upload ended."""
        return self.remote_path or self.remote_name


class JobEvent(models.Model):
    """One change of status, appended in the same transaction. Never edited."""

    job = models.ForeignKey(Job, on_delete=models.PROTECT, related_name="events")
    print = models.ForeignKey(Print, null=True, on_delete=models.PROTECT, related_name="events")
    old = models.CharField(max_length=20, blank=True)
    new = models.CharField(max_length=20)
    cause = models.CharField(max_length=200)
    message = models.CharField(max_length=500, blank=True)
    #: None: the farm itself
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.job_id}: {self.old} -> {self.new}"


class PrinterPace(models.Model):
    """What a printer took for its last prints, over what their G-code said: see jobs.pace. Worked out anew whenever
    one of its prints is done."""

    printer = models.OneToOneField(Printer, on_delete=models.CASCADE, primary_key=True, related_name="pace")
    #: that the G-code was made for
    profile = models.ForeignKey(PrinterProfile, on_delete=models.CASCADE, related_name="paces")
    ratio = models.FloatField()
    prints = models.PositiveSmallIntegerField(help_text="How many say so")
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.printer}: {self.ratio:.2f} of what is estimated, by {self.prints} prints"
