"""Who prints where next. Pure: what people need and what printers offer in, assignments and reasons out.

In order of submission among jobs that fit: the oldest job takes the first printer that it may use and that suits it;
a job that fits nowhere now never blocks the ones behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One copy of a job that waits."""

    job_id: UUID
    #: the printers its owner may print on
    allowed: frozenset[UUID]
    #: the one that was asked for; None: any
    printer_id: UUID | None = None
    #: mm; None for G-code, which fits by its profile
    size_mm: tuple[float, float, float] | None = None
    #: (profile, revision) of uploaded G-code: it goes only there
    profile: tuple[UUID, int] | None = None
    #: the profiles its settings are possible with (nozzle, filament); None: all
    profiles: frozenset[UUID] | None = None
    #: what it was sliced for already: such a printer is taken first among equals
    sliced_for: frozenset[tuple[UUID, int]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One printer as it is now."""

    printer_id: UUID
    name: str
    profile: tuple[UUID, int]
    size_mm: tuple[float, float, float]
    #: why it cannot take a print now, as the end of a sentence ("Prusa 1 ..."); empty: it can
    unready: str = ""
    #: it will not be ready without somebody deciding so (off, in maintenance)
    out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    job_id: UUID
    printer_id: UUID


@dataclass(frozen=True, slots=True)
class Plan:
    assignments: tuple[Assignment, ...]
    #: one sentence for everyone who waits
    reasons: dict[UUID, str]


def match(needs: Sequence[Need], offers: Sequence[Offer]) -> Plan:
    """``needs`` oldest first, one entry for each copy that waits."""
    free = {offer.printer_id: offer for offer in offers if not offer.unready}
    assignments: list[Assignment] = []
    reasons: dict[UUID, str] = {}
    for need in needs:
        fitting = [offer for offer in offers if misfit(need, offer) is None]
        choice = _best(need, [offer for offer in fitting if offer.printer_id in free])
        if choice is None:
            reasons.setdefault(need.job_id, _reason(need, offers, fitting, set(free)))
        else:
            del free[choice.printer_id]
            assignments.append(Assignment(job_id=need.job_id, printer_id=choice.printer_id))
    return Plan(tuple(assignments), reasons)


def fits(size: tuple[float, float, float], volume: tuple[float, float, float]) -> bool:
    """Whether a part of ``size`` mm stands inside ``volume`` mm as it is, unrotated."""
    return all(part <= room for part, room in zip(size, volume, strict=True))


def misfit(need: Need, offer: Offer) -> str | None:
    """Why this need will never be printed there, as the end of a sentence; None: it could be."""
    if need.printer_id not in (None, offer.printer_id):
        return "is not the printer that was asked for"
    if offer.printer_id not in need.allowed:
        return "is not one its owner may print on"
    if need.profile is not None and need.profile != offer.profile:
        return "has another profile (or a newer revision of it) than this G-code was made for"
    if need.profiles is not None and offer.profile[0] not in need.profiles:
        return "has another nozzle or filament than the settings ask for"
    if need.size_mm is not None and not fits(need.size_mm, offer.size_mm):
        return "is too small for this part"
    return None


def _best(need: Need, offers: list[Offer]) -> Offer | None:
    """The first by name, those it was sliced for before the others."""
    return min(offers, key=lambda offer: (offer.profile not in need.sliced_for, offer.name), default=None)


def _reason(need: Need, offers: Sequence[Offer], fitting: list[Offer], free: set[UUID]) -> str:
    if not fitting:
        return _nowhere(need, offers)
    waiting = [offer for offer in fitting if not offer.out]
    if not waiting:
        return "Waiting: " + _list(fitting)
    taken = [offer for offer in waiting if not offer.unready and offer.printer_id not in free]
    if len(taken) == len(waiting):
        return "Waiting its turn: jobs before it take the free printers."
    return (
        "Waiting: "
        + _list([offer for offer in waiting if offer.unready])
        + (" Jobs before it take the other printers." if taken else "")
    )


def _list(offers: list[Offer]) -> str:
    shown = [f"{offer.name} {offer.unready}" for offer in offers[:3]]
    more = len(offers) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "") + "."


def _nowhere(need: Need, offers: Sequence[Offer]) -> str:
    asked = [offer for offer in offers if offer.printer_id == need.printer_id]
    if asked:
        return f"It cannot be printed: {asked[0].name} {misfit(need, asked[0])}."
    mine = [offer for offer in offers if offer.printer_id in need.allowed]
    if not mine:
        return "There is no printer that its owner may use. Ask the people who run the lab."
    return f"It fits no printer: {mine[0].name} {misfit(need, mine[0])}."
