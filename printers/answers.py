"""What machines answered to commands from the console: in Redis for a day, by command, so much and no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from printers import telemetry
from printers.drivers.base import one_line

log = structlog.get_logger(__name__)

#: s
KEPT = 24 * 3600
#: lines of one command, characters of one line
MOST, WIDEST = 300, 300
CUT = "… (it said more than is kept)"


class Recording:
    """Give it to :meth:`printers.drivers.base.PrinterDriver.gcode`. That Redis is away costs the answers, never the
    command."""

    def __init__(self, command_id: UUID) -> None:
        self._key = _key(command_id)
        self._lines = 0

    def __call__(self, line: str) -> None:
        self._lines += 1
        if self._lines > MOST:
            return
        said = CUT if self._lines == MOST else one_line(line, WIDEST)
        try:
            pipe = telemetry.client().pipeline(transaction=False)
            pipe.rpush(self._key, said)
            pipe.expire(self._key, KEPT)
            pipe.execute()
        except RedisError as error:
            log.warning("answer_not_kept", error=str(error))


def read(command_ids: Collection[UUID]) -> dict[UUID, list[str]]:
    """The lines of each, in one exchange; none for a command that nothing was said to, or too long ago."""
    ids = list(command_ids)
    pipe = telemetry.client().pipeline(transaction=False)
    for command_id in ids:
        pipe.lrange(_key(command_id), 0, -1)
    rows: list[Any] = pipe.execute() if ids else []
    return {command_id: [line.decode() for line in lines] for command_id, lines in zip(ids, rows, strict=True)}


def _key(command_id: UUID) -> str:
    return f"farm:answer:{command_id}"
