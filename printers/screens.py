"""Screens in the lab: read-only links that show printers without logging in. A link is not a person: it can do nothing,
and says no names of people and files unless staff made it so."""

from __future__ import annotations

import secrets
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from farm.errors import NotFound
from farm.events import AccessTouched, publish
from farm.models import User
from printers.models import Pool, Printer, Role, TvLink

log = structlog.get_logger(__name__)

#: a screen counts as looked at when it asked within this time
SEEN_EVERY = timedelta(minutes=1)
#: characters that token_urlsafe makes of 32 bytes: also a valid WebSocket subprotocol
SECRET_LENGTH = 43


def _hash(secret: str) -> str:
    """Plain SHA-256: 256 random bits need no salt and no slow hash."""
    return sha256(secret.encode()).hexdigest()


def make_link(by: User, name: str, pool: Pool | None = None, *, show_names: bool = False) -> tuple[TvLink, str]:
    """A new link and its secret, which is never to be seen again."""
    secret = secrets.token_urlsafe(32)
    link = TvLink.objects.create(name=name, pool=pool, show_names=show_names, created_by=by, secret_hash=_hash(secret))
    log.info("tv_link_made", link=str(link.pk), by=by.username)
    return link, secret


@transaction.atomic
def revoke_link(link: TvLink, by: User) -> bool:
    """Whoever shows it is told at once. False when it was revoked before."""
    revoked = TvLink.objects.filter(pk=link.pk, revoked_at=None).update(revoked_at=Now())
    if revoked:
        log.info("tv_link_revoked", link=str(link.pk), by=by.username)
        publish(AccessTouched())
    return bool(revoked)


def open_link(secret: str) -> TvLink:
    """Raises NotFound: never made, mistyped or revoked, nobody learns which. Notes that it was looked at."""
    link = None
    if len(secret) == SECRET_LENGTH:
        link = TvLink.objects.select_related("pool").filter(secret_hash=_hash(secret), revoked_at=None).first()
    if link is None:
        raise NotFound("This screen's link is not valid, or no longer. Ask the people who run the lab for a new one.")
    long_ago = Q(seen_at=None) | Q(seen_at__lt=Now() - SEEN_EVERY)
    TvLink.objects.filter(long_ago, pk=link.pk).update(seen_at=Now())
    return link


def printers_of(link: TvLink) -> QuerySet[Printer]:
    """What it shows: those of its pool, or all; none that are switched off."""
    shown = link.pool.printers.all() if link.pool is not None else Printer.objects.all()
    return shown.filter(enabled=True)


def roles_of(link: TvLink) -> dict[UUID, int]:
    """How much each of its printers may tell it, as for a person (see printers.views.overlay): names need OPERATE,
    here only the right to be told. Nothing is ever done through a link."""
    role = int(Role.OPERATE if link.show_names else Role.VIEW)
    return dict.fromkeys(printers_of(link).values_list("pk", flat=True), role)
