"""Printer profiles, materials, qualities; what was uploaded and sliced."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from unfold.decorators import action

from farm.admin import RecordAdmin, StaffAdmin, each
from farm.errors import FarmError
from slicing import profiles, services
from slicing.forms import PREFIX, MaterialForm, PrinterProfileForm, QualityForm, TakeOverForm
from slicing.models import Gcode, Material, Model3D, PrinterProfile, ProfileRevision, Quality

#: first in every form
CALLED = ("name", "note", "engine", "order", "groups")


class ProfileAdmin(StaffAdmin):
    """Through the services: a change of what decides a print is a new revision."""

    readonly_fields = ("revision", "is_default", "created_at")
    search_fields = ("name", "note")
    filter_horizontal = ("groups",)
    actions = ("make_default",)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """What it is called, what the machine is, and its settings."""
        names = [name for name in self.form.base_fields if name not in self.readonly_fields]
        called = [name for name in CALLED if name in names]
        said = [name for name in names if name.startswith(PREFIX)]
        machine = [name for name in names if name not in (*called, *said)]
        parts = [(None, [*called, *self.readonly_fields]), ("Machine", machine), ("Settings", said)]
        return [(title, {"fields": fields}) for title, fields in parts if fields]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """The groups are saved by the form, afterwards."""
        if change:
            profiles.change_profile(self.model.objects.get(pk=obj.pk), **form.values())
        else:
            obj.pk = profiles.add_profile(self.model, **form.values()).pk

    @admin.action(description="Make it the default")
    def make_default(self, request: HttpRequest, rows: QuerySet[Any]) -> None:
        if rows.count() != 1:
            messages.error(request, "Choose one: there is only one default.")
            return
        each(request, rows, profiles.make_default, "is now the default")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.is_default)


@admin.register(PrinterProfile)
class PrinterProfileAdmin(ProfileAdmin):
    form = PrinterProfileForm
    list_display = ("name", "engine", "is_default", "revision", "width", "depth", "height", "nozzle_diameter")
    list_filter = ("engine", "flavour")
    actions_list = ("take_over",)

    @action(description="Take over from PrusaSlicer", url_path="take-over", icon="upload_file")
    def take_over(self, request: HttpRequest) -> HttpResponse:
        """Printers, materials and qualities from a file of its settings."""
        form = TakeOverForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            try:
                self._take_over(request, form.cleaned_data["file"], form.cleaned_data["gcode"])
                return redirect("admin:slicing_printerprofile_changelist")
            except FarmError as error:
                form.add_error("file", error.message)
        context = {**self.admin_site.each_context(request), "form": form, "title": "Take over from PrusaSlicer"}
        return render(request, "admin/slicing/take_over.html", context)

    def _take_over(self, request: HttpRequest, file: UploadedFile, with_code: bool) -> None:
        imported = profiles.import_ini(services.text_of(file), with_code)
        for row, draft in imported.made:
            left = f" Left out: {', '.join(draft.ignored[:20])}." if draft.ignored else ""
            messages.success(request, f"Made the {profiles.WORDS[row.kind]} {row}.{left} {' '.join(draft.notes)}")
        for sentence in imported.refused:
            messages.error(request, sentence)


@admin.register(Material)
class MaterialAdmin(ProfileAdmin):
    form = MaterialForm
    list_display = ("name", "note", "is_default", "revision", "order")


@admin.register(Quality)
class QualityAdmin(ProfileAdmin):
    form = QualityForm
    list_display = ("name", "note", "is_default", "revision", "order")


@admin.register(ProfileRevision)
class ProfileRevisionAdmin(RecordAdmin):
    list_display = ("name", "kind", "number", "created_at")
    list_filter = ("kind",)
    search_fields = ("name",)


@admin.register(Model3D)
class Model3DAdmin(RecordAdmin):
    list_display = ("name", "owner", "kind", "size_x", "size_y", "size_z", "triangles", "watertight", "created_at")
    list_filter = ("kind", "watertight")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    exclude = ("file",)


@admin.register(Gcode)
class GcodeAdmin(RecordAdmin):
    list_display = ("name", "owner", "profile", "profile_revision", "time_s", "filament_g", "layers", "created_at")
    list_filter = ("profile",)
    list_select_related = ("owner", "profile")
    search_fields = ("name",)
    exclude = ("file", "cache_key")
