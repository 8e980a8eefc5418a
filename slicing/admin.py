"""Printer profiles; what was uploaded and sliced."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from farm.admin import RecordAdmin, StaffAdmin
from slicing import services
from slicing.models import Gcode, Model3D, PrinterProfile


@admin.register(PrinterProfile)
class PrinterProfileAdmin(StaffAdmin):
    list_display = ("name", "is_default", "revision", "width", "depth", "height", "nozzle_diameter", "flavour")
    readonly_fields = ("revision", "created_at")
    search_fields = ("name",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Through the services: a changed machine is a new revision."""
        if not change:
            obj.pk = services.add_profile(**form.cleaned_data).pk
            return
        values = {name: form.cleaned_data[name] for name in form.changed_data}
        services.change_profile(PrinterProfile.objects.get(pk=obj.pk), **values)


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
