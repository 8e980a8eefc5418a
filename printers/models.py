"""Machines, who may use them, and what was asked of them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from printers.drivers import DRIVERS
from slicing.models import PrinterProfile, shown_name


class Role(models.IntegerChoices):
    """What somebody may do with a printer; each includes the ones before."""

    VIEW = 1, "view"
    SUBMIT = 2, "submit"
    OPERATE = 3, "operate"
    MANAGE = 4, "manage"


class CommandKind(models.TextChoices):
    START = "start"  # only dispatch makes this one
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    HOME = "home"
    JOG = "jog"
    SET_TEMPERATURE = "set_temperature"
    GCODE = "gcode"
    FIRMWARE_RESTART = "firmware_restart"
    EMERGENCY_STOP = "emergency_stop"


class CommandStatus(models.TextChoices):
    QUEUED = "queued"
    SENT = "sent"  # from this commit on it may have reached the printer
    DONE = "done"
    REFUSED = "refused"  # the printer said no
    FAILED = "failed"  # it never reached the printer
    EXPIRED = "expired"  # it was not sent in time and never will be
    UNCLEAR = "unclear"  # it was sent and nobody knows what became of it


class CameraSource(models.TextChoices):
    """Who says where a printer's camera is."""

    SERVER = "server", "As its server says"
    OWN = "own", "The addresses given here"
    OFF = "off", "No camera"


COMMAND_OPEN = (CommandStatus.QUEUED, CommandStatus.SENT)


class Printer(models.Model):
    """One machine behind its own server."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True, validators=[shown_name])
    kind = models.CharField(max_length=20, choices=[(kind, kind.title()) for kind in DRIVERS])
    url = models.CharField(max_length=300)
    #: sealed by printers.credentials; "" = the server asks for none
    sealed_key = models.TextField(blank=True, editable=False)
    profile = models.ForeignKey(PrinterProfile, on_delete=models.PROTECT, related_name="printers")
    place = models.CharField(max_length=80, blank=True)
    enabled = models.BooleanField(default=True, help_text="Off: nobody listens to it")
    maintenance = models.CharField(
        max_length=200, blank=True, help_text="Why nothing new may be printed; empty: it may"
    )
    camera = models.CharField(max_length=10, choices=CameraSource, default=CameraSource.SERVER)
    camera_snapshot_url = models.CharField(max_length=300, blank=True)
    camera_stream_url = models.CharField(max_length=300, blank=True)
    #: degrees clockwise, after mirroring; None: turned and mirrored as its server says
    camera_rotation = models.PositiveSmallIntegerField(
        null=True, blank=True, choices=[(degrees, f"{degrees} degrees") for degrees in (0, 90, 180, 270)]
    )
    #: both count only with a rotation given
    camera_flip_h = models.BooleanField(default=False)
    camera_flip_v = models.BooleanField(default=False)
    #: counts what lay on the bed: goes up by one whenever the bed may have become dirty
    bed = models.PositiveIntegerField(default=1, editable=False)
    #: since when that lies there: the end of the work on it
    bed_since = models.DateTimeField(default=timezone.now, editable=False)
    #: the status that it said last (drivers.base.PrinterStatus), and since when
    said = models.CharField(max_length=12, blank=True, editable=False)
    said_since = models.DateTimeField(default=timezone.now, editable=False)
    #: the printer's own record of its prints when it was last seen, see PrinterDriver.marker
    marker = models.JSONField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "printers"

    def __str__(self) -> str:
        return self.name


class BedClear(models.Model):
    """Somebody said that bed ``n`` of a printer is empty. One print may use it, once (see jobs.Print.bed_clear)."""

    printer = models.ForeignKey(Printer, on_delete=models.CASCADE, related_name="clears")
    n = models.PositiveIntegerField()
    #: None: the farm itself, with the reason why it may say so
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    reason = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["printer", "n"], name="one_clear_per_bed")]

    def __str__(self) -> str:
        return f"{self.printer} bed {self.n}"


class Pool(models.Model):
    """Printers that are granted together."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, unique=True, validators=[shown_name])
    printers = models.ManyToManyField(Printer, blank=True, related_name="pools")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Grant(models.Model):
    """A role on a printer or a pool, for a person or a group."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE)
    group = models.ForeignKey(Group, null=True, blank=True, on_delete=models.CASCADE)
    printer = models.ForeignKey(Printer, null=True, blank=True, on_delete=models.CASCADE, related_name="grants")
    pool = models.ForeignKey(Pool, null=True, blank=True, on_delete=models.CASCADE, related_name="grants")
    role = models.PositiveSmallIntegerField(choices=Role)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=True) ^ Q(group__isnull=True), name="grant_to_a_user_or_a_group"
            ),
            models.CheckConstraint(
                condition=Q(printer__isnull=True) ^ Q(pool__isnull=True), name="grant_on_a_printer_or_a_pool"
            ),
            # each of them leaves out the rows that are about something else: NULLs are distinct
            *(
                models.UniqueConstraint(fields=[whom, what], name=f"one_grant_of_a_{what}_to_a_{whom}")
                for whom in ("user", "group")
                for what in ("printer", "pool")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.group}: {self.get_role_display()} {self.printer or self.pool}"


class TvLink(models.Model):
    """An address that shows printers on a screen in the lab, to whoever has it, without logging in. The secret in it is
    random and long, and only its hash is kept."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=80, validators=[shown_name], help_text="Where the screen hangs")
    #: SHA-256, hexadecimal
    secret_hash = models.CharField(max_length=64, unique=True, editable=False)
    pool = models.ForeignKey(
        Pool, null=True, blank=True, on_delete=models.CASCADE, related_name="tv_links", help_text="Empty: all printers"
    )
    show_names = models.BooleanField(
        default=False, help_text="Whoever walks by reads who prints what; off: only how far it is"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    #: to the minute
    seen_at = models.DateTimeField(null=True, editable=False)
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "TV link"

    def __str__(self) -> str:
        return self.name


class Lease(models.Model):
    """Which bridge talks to a printer. ``fence`` only grows; times are the database's."""

    printer = models.OneToOneField(Printer, on_delete=models.CASCADE, related_name="lease", primary_key=True)
    holder = models.CharField(max_length=64, blank=True)
    fence = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.printer_id} {self.holder} {self.fence}"


class LiveBridge(models.Model):
    """A bridge that lives, so that the others leave it its share of the printers. Times are the database's."""

    holder = models.CharField(max_length=64, primary_key=True)
    #: printers that it holds at most
    most = models.PositiveIntegerField()
    expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.holder


class Command(models.Model):
    """Something to be done by a printer: carried out by the bridge that holds its lease, in order, one at a time."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    printer = models.ForeignKey(Printer, on_delete=models.CASCADE, related_name="commands")
    kind = models.CharField(max_length=20, choices=CommandKind)
    args = models.JSONField(default=dict, blank=True)
    #: the jobs.Print it is meant for; not a foreign key, because printers know nothing of jobs
    print_id = models.UUIDField(null=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT)
    status = models.CharField(max_length=10, choices=CommandStatus, default=CommandStatus.QUEUED)
    message = models.CharField(max_length=500, blank=True)
    #: the fence of the bridge that sent it
    fence = models.PositiveBigIntegerField(null=True)
    created_at = models.DateTimeField(db_index=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["print_id"], condition=Q(kind="start"), name="one_start_per_print"),
            models.CheckConstraint(condition=Q(expires_at__gt=F("created_at")), name="expires_after_creation"),
        ]
        indexes = [
            models.Index(fields=["printer", "created_at"], condition=Q(status="queued"), name="queued_commands"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.printer_id} {self.status}"
