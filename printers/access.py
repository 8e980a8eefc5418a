"""Who may do what with which printer. Every door goes through here: fetching and permission are one act."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from farm.errors import Forbidden, NotFound
from farm.models import User
from printers.models import Grant, Printer, Role
from slicing.models import PrinterProfile


def _grants(user: User) -> QuerySet[Grant]:
    return Grant.objects.filter(Q(user=user) | Q(group__in=user.groups.all()))


def visible(user: User, role: Role = Role.VIEW) -> QuerySet[Printer]:
    """The printers on which this person has at least ``role``."""
    if not user.is_active:
        return Printer.objects.none()
    if user.is_staff:
        return Printer.objects.all()
    grants = _grants(user).filter(role__gte=role)
    return Printer.objects.filter(
        Q(pk__in=grants.exclude(printer=None).values("printer")) | Q(pools__in=grants.exclude(pool=None).values("pool"))
    ).distinct()


def people_on(printers: Iterable[UUID], role: Role) -> QuerySet[User]:
    """Everybody who has at least ``role`` on any of these printers."""
    ids = list(printers)
    grants = Grant.objects.filter(Q(printer__in=ids) | Q(pool__printers__in=ids), role__gte=role)
    groups = grants.exclude(group=None).values("group")
    named = Q(pk__in=grants.exclude(user=None).values("user")) | Q(groups__in=groups)
    staff = Q(is_staff=True) if ids else Q(pk=None)
    return User.objects.filter(staff | named, is_active=True).distinct()


def get(user: User, pk: Any, role: Role) -> Printer:
    """Raises NotFound when the person may not see it (or it is not there), Forbidden when the role is too weak."""
    try:
        printer = visible(user).get(pk=UUID(str(pk)))
    except (Printer.DoesNotExist, ValueError):
        raise NotFound("There is no such printer, or you may not see it.") from None
    if role > Role.VIEW and role_on(user, printer) < role:
        raise Forbidden(f"This needs the right to {role.label} {printer.name}. Ask the people who run the lab.")
    return printer


def role_on(user: User, printer: Printer) -> int:
    """The strongest role, 0 for none."""
    return roles(user, [printer]).get(printer.pk, 0)


def roles(user: User, printers: Iterable[Printer] | None = None) -> dict[UUID, int]:
    """The strongest role of this person on each of ``printers`` (None: on every one that they may see), in two queries
    for any number of them."""
    ids = None if printers is None else [printer.pk for printer in printers]
    if not user.is_active:
        return {}
    if user.is_staff:
        return dict.fromkeys(Printer.objects.values_list("pk", flat=True) if ids is None else ids, int(Role.MANAGE))
    direct, pooled = Q(printer__isnull=False), Q(pool__printers__isnull=False)
    if ids is not None:
        direct, pooled = Q(printer__in=ids), Q(pool__printers__in=ids)
    found: dict[UUID, int] = {}
    rows = list(_grants(user).filter(direct).values_list("printer_id", "role"))
    rows += list(_grants(user).filter(pooled).values_list("pool__printers", "role"))
    for printer_id, role in rows:
        found[printer_id] = max(role, found.get(printer_id, 0))
    return found


class GrantBackend(BaseBackend):
    """Answers ``user.has_perm("printers.operate")``: has this person at least that role on any printer? And with a
    printer profile: on every printer that it describes? The way for rooms below this one (slicing) to ask, without
    importing it."""

    def has_perm(self, user_obj: User | AnonymousUser, perm: str, obj: Any = None) -> bool:
        room, _, name = perm.partition(".")
        role = {role.label: role for role in Role}.get(name)
        if room != "printers" or role is None or not isinstance(user_obj, User) or not user_obj.is_active:
            return False
        if user_obj.is_staff:
            return True
        if isinstance(obj, PrinterProfile):
            return not obj.printers.exclude(pk__in=visible(user_obj, role)).exists()
        return obj is None and _grants(user_obj).filter(role__gte=role).exists()
