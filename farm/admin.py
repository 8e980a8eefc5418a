"""What every admin page shares, and people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from farm.errors import FarmError
from farm.events import AccessTouched, publish
from farm.models import IdempotencyKey, User
from farm.pages import person


def staff(request: HttpRequest) -> bool:
    return request.user.is_active and bool(getattr(request.user, "is_staff", False))


class StaffAdmin(ModelAdmin):
    """Staff run everything: there is no other permission. What a service refuses is said, not a crash."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return staff(request)

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return staff(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return staff(request)

    has_change_permission = has_delete_permission = has_view_permission

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _or_say_why(request, lambda: super(StaffAdmin, self).changeform_view(request, *args, **kwargs))

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return _or_say_why(request, lambda: super(StaffAdmin, self).delete_view(request, *args, **kwargs))


def _or_say_why(request: HttpRequest, answer: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        return answer()
    except FarmError as error:
        messages.error(request, error.message)
        return HttpResponseRedirect(request.get_full_path())


class RecordAdmin(StaffAdmin):
    """Rows that only services write: to be read here, with actions that call the services."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    has_delete_permission = has_change_permission


class RecordInline(TabularInline):
    """Such rows under their owner."""

    extra = 0
    can_delete = False

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return staff(request)

    def has_add_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    has_change_permission = has_delete_permission = has_add_permission


def each(request: HttpRequest, rows: Any, act: Any, done: str) -> None:
    """``act(row)`` for every chosen row; says how many were ``done``, and why the others were not."""
    count = 0
    for row in rows:
        try:
            act(row)
            count += 1
        except FarmError as error:
            messages.error(request, f"{row}: {error.message}")
    if count:
        messages.success(request, f"{count} {done}.")


class AccessAdmin(StaffAdmin):
    """Rows that decide who may see what: whoever looks now is told to ask again."""

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        publish(AccessTouched())
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        publish(AccessTouched())
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        publish(AccessTouched())
        return super().log_deletions(request, queryset)


@admin.register(User)
class UserAdmin(AccessAdmin, DjangoUserAdmin):
    """Staff keep people; only superusers make and change staff."""

    form, add_form, change_password_form = UserChangeForm, UserCreationForm, AdminPasswordChangeForm
    list_display = ("username", "first_name", "last_name", "email", "is_staff", "is_active", "last_login")
    list_filter = ("is_staff", "is_active", "groups")
    filter_horizontal = ("groups",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("May", {"fields": ("is_active", "groups", "is_staff", "is_superuser")}),
        ("Since", {"fields": ("date_joined", "last_login")}),
    )
    #: Unfold's empty ones would hide Django's
    add_fieldsets = ((None, {"fields": ("username", "first_name", "last_name", "email", "password1", "password2")}),)
    readonly_fields = ("date_joined", "last_login")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        powers = () if person(request).is_superuser else ("is_staff", "is_superuser")
        return (*super().get_readonly_fields(request, obj), *powers)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        mighty = obj is not None and (obj.is_staff or obj.is_superuser)
        return staff(request) and (person(request).is_superuser or not mighty)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return staff(request) and person(request).is_superuser


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(AccessAdmin, DjangoGroupAdmin):
    """People who are granted printers together. Django's own permissions are not used here."""

    exclude = ("permissions",)
    filter_horizontal = ()


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(RecordAdmin):
    list_display = ("created_at", "user", "key", "status")
    list_select_related = ("user",)
    fields = ("user", "key", "status", "created_at")
