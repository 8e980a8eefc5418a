"""How several bridges share the printers: each says that it lives, and aims at its share.

Nobody assigns printers. A bridge takes free ones up to its share, and gives idle ones back when it holds clearly more,
as after another one has joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import ceil

from django.db.models.functions import Now

from printers.models import LiveBridge

#: of its share; how much more a bridge may hold and keeps, so that nothing goes to and fro
SLACK = 0.05


def share(printers: int, capacities: Mapping[str, int], holder: str) -> int:
    """How many of ``printers`` this one of the live bridges (holder -> how many it holds at most) aims at.

    Equal shares, rounded up; what a small one cannot hold is shared by the bigger ones. All shares together hold all
    printers if that is possible at all.
    """
    left = printers
    bridges = sorted(capacities.items(), key=lambda bridge: (bridge[1], bridge[0]))
    for position, (name, most) in enumerate(bridges):
        part = min(most, ceil(left / (len(bridges) - position)))
        if name == holder:
            return part
        left -= part
    return 0


def surplus(held: int, aim: int) -> int:
    """How many to give back."""
    return held - aim if held > aim + int(aim * SLACK) else 0


def announce(holder: str, most: int, ttl: timedelta) -> dict[str, int]:
    """Say that this bridge lives, for ``ttl`` by the database's clock; all that do, with what they hold at most."""
    if not LiveBridge.objects.filter(holder=holder).update(expires_at=Now() + ttl, most=most):
        LiveBridge.objects.filter(expires_at__lt=Now() - timedelta(hours=1)).delete()
        LiveBridge.objects.create(holder=holder, most=most, expires_at=Now() + ttl)
    return dict(LiveBridge.objects.filter(expires_at__gt=Now()).values_list("holder", "most"))


def withdraw(holder: str) -> None:
    """This bridge ends."""
    LiveBridge.objects.filter(holder=holder).delete()
