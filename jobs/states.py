"""What a job and a print can be, and every way from one to the other with its cause.

A **Print** is one attempt on one printer. A **Job** is what a person wants; with one copy it shows its print's
status in place of ``active``.
"""

from __future__ import annotations

from django.db import models


class PrintStatus(models.TextChoices):
    UPLOADING = "uploading"  # the printer is reserved; the file is on its way; nothing was started
    STARTING = "starting"  # committed before the start is sent: from here on there may be plastic on the bed
    PRINTING = "printing"
    PAUSED = "paused"
    UNKNOWN = "unknown"  # we cannot tell whether it started: frozen until reconciled or a person decides
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobStatus(models.TextChoices):
    PREPARING = "preparing"  # being sliced
    AWAITING_APPROVAL = "awaiting_approval"
    READY = "ready"  # waiting in the queue
    ACTIVE = "active"  # at least one print is live
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


P, J = PrintStatus, JobStatus

#: a print that has its printer; at most one for each printer
PRINT_LIVE = (P.UPLOADING, P.STARTING, P.PRINTING, P.PAUSED, P.UNKNOWN)
PRINT_TERMINAL = (P.COMPLETED, P.FAILED, P.CANCELLED)
#: the printer may be working on it
PRINT_STARTED = (P.STARTING, P.PRINTING, P.PAUSED, P.UNKNOWN)
JOB_QUEUED = (J.READY, J.ACTIVE)
JOB_TERMINAL = (J.COMPLETED, J.FAILED, J.CANCELLED)

PRINT_TRANSITIONS: dict[PrintStatus, dict[PrintStatus, str]] = {
    P.UPLOADING: {
        P.STARTING: "uploaded, verified, start committed",
        P.FAILED: "upload or slicing failed",
        P.CANCELLED: "cancelled before the start",
    },
    P.STARTING: {
        P.PRINTING: "the printer shows our file",
        P.PAUSED: "the printer shows our file, paused already",
        P.COMPLETED: "the printer's record says so: it was shorter than our look",
        P.FAILED: "start refused, or the printer's record says so",
        P.CANCELLED: "the printer's record says so",
        P.UNKNOWN: "no clear answer to the start",
    },
    P.PRINTING: {
        P.PAUSED: "the printer says so",
        P.COMPLETED: "the printer's record says so",
        P.FAILED: "the printer's record says so, or it came back without a trace of it",
        P.CANCELLED: "the printer's record says so",
    },
    P.PAUSED: {
        P.PRINTING: "the printer says so",
        P.COMPLETED: "the printer's record says so",
        P.FAILED: "the printer's record says so, or it came back without a trace of it",
        P.CANCELLED: "the printer's record says so",
    },
    P.UNKNOWN: {
        P.PRINTING: "reconciled: the printer shows our file",
        P.PAUSED: "reconciled: the printer shows our file, paused",
        P.COMPLETED: "reconciled by the printer's record, or a person decided",
        P.FAILED: "reconciled: its file was deleted before it could start; or a person decided",
        P.CANCELLED: "reconciled by the printer's record, or a person decided",
    },
    P.COMPLETED: {},
    P.FAILED: {},
    P.CANCELLED: {},
}
JOB_TRANSITIONS: dict[JobStatus, dict[JobStatus, str]] = {
    J.PREPARING: {
        J.AWAITING_APPROVAL: "sliced; this lab approves",
        J.READY: "sliced",
        J.FAILED: "it cannot be sliced",
        J.CANCELLED: "cancelled by a person",
    },
    J.AWAITING_APPROVAL: {
        J.READY: "approved",
        J.FAILED: "not approved",
        J.CANCELLED: "cancelled by a person",
    },
    J.READY: {
        J.ACTIVE: "dispatch gave it a printer",
        J.FAILED: "too many attempts failed before their start",
        J.CANCELLED: "cancelled by a person",
    },
    J.ACTIVE: {
        J.READY: "no print is live and copies are missing",
        J.COMPLETED: "every copy is printed",
        J.FAILED: "no print is live and a copy failed",
        J.CANCELLED: "cancelled",
    },
    J.COMPLETED: {},
    J.FAILED: {},
    J.CANCELLED: {},
}
