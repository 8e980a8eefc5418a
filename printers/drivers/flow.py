"""An HTTP answer that is read as it comes, for answers that never end. See :meth:`printers.drivers.http.Door.dial`."""

from __future__ import annotations

import contextlib
import io
import math
import socket
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from printers.drivers.base import Unreachable

#: s without a byte
SILENCE_S = 5.0
BLOCK = 65_536


class _Reader(io.RawIOBase):
    """What a socket receives, until a deadline: a server that sends a byte now and then is as late as a silent one."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self._link = link
        self.deadline = math.inf

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._link.settimeout(min(left, SILENCE_S))
        return self._link.recv_into(buffer)


class _Plug:
    """As much of a socket as :mod:`http.client` asks for."""

    def __init__(self, link: socket.socket, reader: _Reader) -> None:
        self.sendall = link.sendall
        self._reader = reader

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader, BLOCK)

    def close(self) -> None:
        """The connection belongs to the flow: http.client closes its end as soon as it has read the head."""


class Flow:
    """One GET on a connection of its own. One thread reads; :meth:`stop` may be called from any other."""

    def __init__(self, link: socket.socket, host: str) -> None:
        self._link, self._host = link, host
        self._reader = _Reader(link)
        self._response: HTTPResponse | None = None
        #: of the answer, with its parameters; lower case up to the first of them
        self.content_type = ""

    def get(self, target: str, within: float) -> int:
        """Ask for ``target`` (path and query); the status, read within so many seconds. Raises Unreachable."""
        self._reader.deadline = time.monotonic() + within
        connection = HTTPConnection(self._host)
        connection.sock = _Plug(self._link, self._reader)
        with self._faults():
            connection.putrequest("GET", target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", self._host)
            connection.putheader("Accept", "image/*, multipart/x-mixed-replace")
            connection.putheader("Accept-Encoding", "identity")
            connection.putheader("Connection", "close")
            connection.endheaders()
            self._response = connection.getresponse()
        self.content_type = self._response.headers.get("Content-Type", "")
        return self._response.status

    def read(self, deadline: float) -> bytes:
        """What has come; b"" at the end. ``deadline`` by time.monotonic(). Raises Unreachable."""
        assert self._response is not None  # noqa: S101 - for the type checker: get() comes first
        self._reader.deadline = deadline
        with self._faults():
            return self._response.read1(BLOCK)

    @contextlib.contextmanager
    def _faults(self) -> Any:
        try:
            yield
        except (OSError, HTTPException, ValueError) as fault:  # ValueError: a TLS socket that was shut down meanwhile
            raise Unreachable(f"It was asked and did not answer ({type(fault).__name__}).") from None

    def stop(self) -> None:
        """Wake whoever reads: nothing more will come."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._link, socket.SHUT_RDWR)  # below TLS, which would wait for an answer

    def close(self) -> None:
        self._link.close()
