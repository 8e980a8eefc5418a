"""Jobs, their prints and what happened to them: to be read, with actions that call the services."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from unfold.decorators import display

from farm.admin import RecordAdmin, RecordInline, each
from farm.pages import person
from jobs import services
from jobs.looks import job_look, print_look
from jobs.models import Job, JobEvent, Print, PrinterPace
from jobs.states import PrintStatus

#: Unfold's names for our tones
_TONES = {"red": "danger", "amber": "warning", "blue": "info", "green": "success", "violet": "primary", "grey": ""}


class PrintInline(RecordInline):
    model = Print
    fields = ("printer_name", "status", "message", "progress", "created_at", "ended_at")
    readonly_fields = ("created_at",)


class JobEventInline(RecordInline):
    model = JobEvent
    fields = ("at", "print", "old", "new", "cause", "message", "actor")
    readonly_fields = ("at",)


@admin.register(Job)
class JobAdmin(RecordAdmin):
    list_display = ("name", "owner", "shown_status", "copies", "printer", "message", "created_at")
    list_filter = ("status", "hold", "printer")
    list_select_related = ("owner", "printer")
    search_fields = ("name", "owner__username")
    date_hierarchy = "created_at"
    inlines = (PrintInline, JobEventInline)
    actions = ("cancel", "approve", "reject", "release")

    @display(description="Status", label=_TONES)
    def shown_status(self, job: Job) -> tuple[str, str]:
        look = job_look(job, job.status)
        return look.tone, look.word

    @admin.action(description="Cancel")
    def cancel(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda job: services.cancel(job, by=person(request)), "cancelled")

    @admin.action(description="Approve")
    def approve(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda job: services.approve(job, by=person(request)), "approved")

    @admin.action(description="Reject (give a reason on the job's own page instead)")
    def reject(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda job: services.reject(job, by=person(request), why=""), "rejected")

    @admin.action(description="End the hold")
    def release(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda job: services.release(job, by=person(request)), "in the queue")


@admin.register(Print)
class PrintAdmin(RecordAdmin):
    list_display = ("job", "printer_name", "shown_status", "message", "started_at", "ended_at", "duration_s")
    list_filter = ("status", "printer")
    list_select_related = ("job",)
    search_fields = ("job__name", "printer_name", "remote_name")
    date_hierarchy = "created_at"
    actions = ("it_completed", "it_failed", "it_was_cancelled")

    @display(description="Status", label=_TONES)
    def shown_status(self, attempt: Print) -> tuple[str, str]:
        look = print_look(attempt.status)
        return look.tone, look.word

    def _decide(self, request: HttpRequest, queryset: Any, outcome: PrintStatus) -> None:
        each(request, queryset, lambda attempt: services.decide(attempt, outcome, by=person(request)), "decided")

    @admin.action(description="I looked: it completed")
    def it_completed(self, request: HttpRequest, queryset: Any) -> None:
        self._decide(request, queryset, PrintStatus.COMPLETED)

    @admin.action(description="I looked: it failed")
    def it_failed(self, request: HttpRequest, queryset: Any) -> None:
        self._decide(request, queryset, PrintStatus.FAILED)

    @admin.action(description="I looked: it was cancelled")
    def it_was_cancelled(self, request: HttpRequest, queryset: Any) -> None:
        self._decide(request, queryset, PrintStatus.CANCELLED)


@admin.register(JobEvent)
class JobEventAdmin(RecordAdmin):
    list_display = ("at", "job", "print", "old", "new", "cause", "message", "actor")
    list_filter = ("new",)
    list_select_related = ("job", "print__job", "actor")
    date_hierarchy = "at"


@admin.register(PrinterPace)
class PrinterPaceAdmin(RecordAdmin):
    """What printers really take: over what their G-code says, by the last prints that nothing disturbed."""

    list_display = ("printer", "profile", "shown_ratio", "prints", "changed_at")
    list_filter = ("profile",)
    list_select_related = ("printer", "profile")

    @display(description="Takes, over its estimates", ordering="ratio")
    def shown_ratio(self, row: PrinterPace) -> str:
        return f"{100 * row.ratio:.0f} %"
