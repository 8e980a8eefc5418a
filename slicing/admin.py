"""Printer profiles, materials, qualities; what was uploaded and sliced."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from farm.admin import RecordAdmin, StaffAdmin, each
from slicing import profiles
from slicing.forms import MaterialForm, PrinterProfileForm, QualityForm
from slicing.models import Gcode, Material, Model3D, PrinterProfile, ProfileRevision, Quality


class ProfileAdmin(StaffAdmin):
    """Through the services: a change of what decides a print is a new revision."""

    readonly_fields = ("revision", "is_default", "created_at")
    search_fields = ("name", "note")
    filter_horizontal = ("groups",)
    actions = ("make_default",)

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
