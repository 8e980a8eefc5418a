"""Printers and who may use them; beds, leases and commands to be read."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminPasswordWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from farm.admin import AccessAdmin, RecordAdmin, StaffAdmin, each
from farm.errors import FarmError
from farm.pages import person, whole
from printers import screens, services
from printers.drivers import DRIVERS
from printers.looks import LOOKS, command_title, kind_of
from printers.models import BedClear, Command, Grant, Lease, LiveBridge, Pool, Printer, TvLink
from printers.views import state_views

#: Unfold's names for our tones
_TONES = {"red": "danger", "amber": "warning", "blue": "info", "green": "success", "violet": "primary", "grey": ""}


#: as their makers write them
KINDS = {"octoprint": "OctoPrint", "moonraker": "Moonraker (Klipper)"}


_CAMERA = (
    "camera",
    "camera_snapshot_url",
    "camera_stream_url",
    "camera_rotation",
    "camera_flip_h",
    "camera_flip_v",
)


class PrinterForm(forms.ModelForm):
    kind = forms.ChoiceField(
        label="Server",
        choices=[(kind, KINDS.get(kind, kind)) for kind in DRIVERS],
        widget=UnfoldAdminSelectWidget,
        help_text="What runs beside the printer.",
    )
    url = forms.CharField(
        label="Address",
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
        help_text="As this farm reaches it: http://192.168.1.20 (OctoPrint), http://192.168.1.21:7125 (Moonraker).",
    )
    api_key = forms.CharField(
        label="API key",
        required=False,
        max_length=200,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="From the printer's own settings. Kept encrypted, never shown again; empty leaves it as it is.",
    )
    bed_clear = forms.BooleanField(
        label="Its bed is empty now",
        required=False,
        widget=UnfoldBooleanSwitchWidget,
        help_text="Only if you have just looked: a print may start at once.",
    )

    class Meta:
        model = Printer
        fields = ("name", "kind", "url", "api_key", "profile", "place", "enabled", "maintenance", "bed_clear", *_CAMERA)
        labels: ClassVar[dict[str, str]] = {
            "camera": "Where it is",
            "camera_snapshot_url": "Address of single pictures",
            "camera_stream_url": "Address of the stream",
            "camera_rotation": "Turn the picture by",
            "camera_flip_h": "Mirror left and right",
            "camera_flip_v": "Mirror top and bottom",
        }
        help_texts: ClassVar[dict[str, str]] = {
            "camera": "The printer's server may only name a camera on its own host; any other is entered here.",
            "camera_snapshot_url": "As this farm reaches it: http://192.168.1.20:8080/?action=snapshot. People see the "
            "pictures through the farm, never this address.",
            "camera_stream_url": "MJPEG: http://192.168.1.20:8080/?action=stream. Without it, live is two pictures a "
            "second.",
            "camera_rotation": "Clockwise, after mirroring. Empty: turned and mirrored as the printer's server says.",
        }

    def clean_url(self) -> str:
        try:
            return services.check_url(self.cleaned_data["url"])
        except FarmError as error:
            raise ValidationError(error.message) from error

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean()
        if "url" in self.cleaned_data:
            try:
                services.check_key_given(self.instance, self.cleaned_data["url"], "api_key" in self.changed_data)
            except FarmError as error:
                self.add_error("api_key", error.message)
        self._clean_camera()
        return cleaned

    def _clean_camera(self) -> None:
        said = {name: self.cleaned_data[name] for name in _CAMERA if name in self.cleaned_data}
        try:
            services.check_camera(self.instance, said)
        except FarmError as error:
            self.add_error(error.extra["field"], error.message)
        self.cleaned_data.update(said)


@admin.register(Printer)
class PrinterAdmin(StaffAdmin):
    form = PrinterForm
    list_display = ("name", "shown_kind", "place", "shown_state", "shown_bed", "maintenance")
    list_filter = ("kind", "place", "enabled", "profile")
    search_fields = ("name", "place", "url")
    actions = ("test_connection", "clear_beds", "begin_maintenance", "end_maintenance")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """A bed is cleared by whoever looks at it, with an action; only a new printer may come with one."""
        hidden = {*_CAMERA, *(["bed_clear"] if obj else [])}
        fields = [name for name in PrinterForm.Meta.fields if name not in hidden]
        return [(None, {"fields": fields}), ("Camera", {"fields": _CAMERA})]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"profile": services.default_profile().pk, **super().get_changeform_initial_data(request)}

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Each shown row with its state, in a few queries for all."""
        found = super().get_changelist_instance(request)
        states = state_views(person(request), found.result_list)
        for row in found.result_list:
            row.state = states[row.pk]
        return found

    def get_actions(self, request: HttpRequest) -> Any:
        """Printers are removed one by one, where the reason why not can be said."""
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    @display(description="Server", ordering="kind")
    def shown_kind(self, printer: Printer) -> str:
        return KINDS.get(printer.kind, printer.kind)

    @display(description="State", label=_TONES)
    def shown_state(self, printer: Any) -> tuple[str, str]:
        look = LOOKS[kind_of(printer.state)]
        return look.tone, look.word

    @display(description="Bed clear", boolean=True)
    def shown_bed(self, printer: Any) -> bool:
        return bool(printer.state["bed_clear"])

    # -- through the services
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in form.changed_data}
        if change:
            services.change_printer(Printer.objects.get(pk=obj.pk), **values)
        else:
            obj.pk = services.add_printer(by=person(request), **form.cleaned_data).pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        services.remove_printer(obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its lease, clears and commands go with it; its history stays. The service says what forbids it."""
        return [str(obj) for obj in objs], {"printers": len(objs)}, set(), []

    # -- actions
    @admin.action(description="Test the connection")
    def test_connection(self, request: HttpRequest, queryset: Any) -> None:
        for printer in queryset:
            try:
                found = services.try_connection(printer)
                messages.success(request, f"{printer}: {found.software} answers, {found.status.value}.")
            except FarmError as error:
                messages.error(request, error.message)

    @admin.action(description="Clear beds (asks)")
    def clear_beds(self, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        """The question shows each bed's number: a bed that changes meanwhile is not cleared."""
        if request.POST.get("sure") == "yes":
            beds = {str(printer.pk): request.POST.get(f"bed-{printer.pk}", "") for printer in queryset}
            by = person(request)
            each(request, queryset, lambda row: services.clear_bed(row, whole(beds[str(row.pk)], "bed"), by), "cleared")
            return None
        states = state_views(person(request), queryset)
        context = {
            **self.admin_site.each_context(request),
            "title": "Are these beds empty?",
            "opts": self.model._meta,
            "printers": [(printer, LOOKS[kind_of(states[printer.pk])].word) for printer in queryset],
        }
        return TemplateResponse(request, "admin/printers/clear_beds.html", context)

    @admin.action(description="Begin maintenance")
    def begin_maintenance(self, request: HttpRequest, queryset: Any) -> None:
        reason = f"Taken out of service by {person(request).shown_name}"
        each(request, queryset, lambda row: services.change_printer(row, maintenance=reason), "in maintenance")

    @admin.action(description="End maintenance")
    def end_maintenance(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda row: services.change_printer(row, maintenance=""), "back in service")


@admin.register(Pool)
class PoolAdmin(AccessAdmin):
    list_display = ("name",)
    filter_horizontal = ("printers",)
    search_fields = ("name",)


@admin.register(Grant)
class GrantAdmin(AccessAdmin):
    list_display = ("__str__", "user", "group", "printer", "pool", "role")
    list_filter = ("role", "pool", "printer")
    list_select_related = ("user", "group", "printer", "pool")


@admin.register(TvLink)
class TvLinkAdmin(RecordAdmin):
    """They are made at /tv/, where the address is shown once."""

    list_display = ("name", "pool", "show_names", "created_by", "created_at", "seen_at", "revoked_at")
    list_filter = ("pool",)
    list_select_related = ("pool", "created_by")
    exclude = ("secret_hash",)
    actions = ("revoke",)

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        each(request, queryset, lambda link: screens.revoke_link(link, by=person(request)), "revoked")


@admin.register(BedClear)
class BedClearAdmin(RecordAdmin):
    list_display = ("at", "printer", "n", "by", "reason")
    list_filter = ("printer",)
    list_select_related = ("printer", "by")


@admin.register(Lease)
class LeaseAdmin(RecordAdmin):
    list_display = ("printer", "holder", "fence", "expires_at")
    list_select_related = ("printer",)


@admin.register(LiveBridge)
class LiveBridgeAdmin(RecordAdmin):
    list_display = ("holder", "most", "expires_at")


@admin.register(Command)
class CommandAdmin(RecordAdmin):
    list_display = ("created_at", "printer", "title", "status", "message", "by", "ended_at")
    list_filter = ("status", "kind", "printer")
    list_select_related = ("printer", "by")
    date_hierarchy = "created_at"

    @display(description="Command")
    def title(self, command: Command) -> str:
        return command_title(command)
