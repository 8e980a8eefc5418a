"""The only door to printers' servers: HTTP by `urllib3`, sockets by `websocket-client`, both on a short leash.

What this door holds, so that no driver needs to think of it:

* every exchange has a (connect, read) timeout and a deadline for the whole body, and every answer a size limit;
* no redirect is followed (the API key would go to another host), no proxy of the environment is used;
* the connection goes to the very IP address that was checked (a name may resolve differently the second time);
* every fault becomes a :class:`~printers.drivers.base.DriverError`: not connected is Unreachable, a write that was
  sent and not answered is Unclear;
* the API key is in no message, repr or log.

One exchange is one connection. A kept-alive one may turn out to be dead only after a write went into it, and then
nobody could say whether the printer got it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from urllib.parse import SplitResult, urlencode, urlsplit

import orjson
import websocket
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from printers.drivers.base import DriverError, Garbled, Refused, Unauthorised, Unclear, Unreachable, one_line
from printers.drivers.flow import Flow
from printers.drivers.sockets import Link, Socket

#: (connect, read) seconds: a printer is on the same network, its server may be a busy Raspberry Pi.
TIMEOUT = (4.0, 10.0)
#: For uploads the first also limits each send: an SD card may stall for seconds while it writes.
UPLOAD_TIMEOUT = (20.0, 120.0)
#: Bytes a second below which an upload is given up.
SLOWEST_UPLOAD = 20_000
#: Bytes read from disk at once.
UPLOAD_BLOCK = 65_536
#: The biggest answer is the list of all files of a printer.
MAX_ANSWER = 32 * 2**20
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def allowed_address(host: str, networks: Sequence[IPNetwork]) -> str | None:
    """The address of ``host`` to connect to: the first one (IPv4 before IPv6) inside ``networks``, or None.

    Link-local, multicast and unspecified addresses and clouds' metadata services (most live on link-local ones) are
    never allowed, whatever ``networks`` says. Raises Unreachable when the name has no address at all.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(f"No machine on the network is called {host}.") from None
    addresses = [_unwrapped(str(entry[4][0])) for entry in found]
    addresses.sort(key=lambda address: address.version)
    return next((str(address) for address in addresses if _is_allowed(address, networks)), None)


def _unwrapped(text: str) -> IPAddress:
    """``::ffff:10.0.0.1`` reaches 10.0.0.1, so it is judged as 10.0.0.1."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


#: Amazon's instance metadata service, inside the private fc00::/7
_METADATA_V6 = ipaddress.ip_address("fd00:ec2::254")


def _is_allowed(address: IPAddress, networks: Sequence[IPNetwork]) -> bool:
    if address.is_link_local or address.is_multicast or address.is_unspecified or address == _METADATA_V6:
        return False
    return any(address in network for network in networks)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: status, media type without parameters, body as received."""

    status: int
    media_type: str
    body: bytes

    @property
    def is_json(self) -> bool:
        return self.media_type == "application/json"

    def json(self) -> Any:
        """The decoded body. Raises Garbled."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError:
            raise Garbled("The printer's server answered something that is not JSON.") from None


class Door:
    """All exchanges with one printer's server. Holds no connection and no lock: use it from any thread."""

    def __init__(
        self, base_url: str, api_key: str = "", check_address: Callable[[str], str | None] | None = None
    ) -> None:
        self._base_url = base_url
        self._api_key = api_key
        self._check_address = check_address

    def __repr__(self) -> str:
        return f"Door({self.place})"

    @property
    def place(self) -> str:
        """host:port for messages; never more of the URL than that (somebody may have put a password in it)."""
        try:
            parts = urlsplit(self._base_url)
            return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
        except ValueError:
            return "the printer's address"

    def read(
        self, path: str, *, params: Mapping[str, str] | None = None, timeout: tuple[float, float] = TIMEOUT
    ) -> Answer:
        """GET. Raises Unreachable or Garbled; every status below 300 and above 399 is an Answer."""
        try:
            return self._exchange("GET", path, timeout, params=params)
        except _Unanswered as fault:
            raise Unreachable(fault.message) from None
        except _Redirected as fault:
            raise Garbled(fault.message) from None

    def ask(self, path: str, body: object, *, timeout: tuple[float, float] = TIMEOUT) -> Answer:
        """A POST that changes nothing (a query, a passive login): faults as for :meth:`read`."""
        try:
            return self._exchange("POST", path, timeout, data=orjson.dumps(body), headers=_JSON)
        except _Unanswered as fault:
            raise Unreachable(fault.message) from None
        except _Redirected as fault:
            raise Garbled(fault.message) from None

    def write(self, method: str, path: str, body: object = None, *, timeout: tuple[float, float] = TIMEOUT) -> Answer:
        """Send once, never again. Raises Unreachable (it was not sent), Unclear (sent, not answered) or Refused
        (redirected, so not carried out)."""
        data, headers = (None, {}) if body is None else (orjson.dumps(body), _JSON)
        return self._send(method, path, timeout, data=data, headers=headers)

    def upload(self, path: str, parts: Multipart) -> Answer:
        """POST a multipart form from disk with its exact Content-Length. Faults as for :meth:`write`."""
        headers = {"Content-Type": parts.content_type, "Content-Length": str(len(parts))}
        return self._send("POST", path, UPLOAD_TIMEOUT, data=parts, headers=headers)

    def _send(self, method: str, path: str, timeout: tuple[float, float], **request: Any) -> Answer:
        try:
            return self._exchange(method, path, timeout, **request)
        except _Unanswered as fault:
            raise Unclear(fault.message) from None
        except _Redirected as fault:
            raise Refused(fault.message) from None

    def masked(self, text: str) -> str:
        """Text of the server, fit for a message: one line, and no API key."""
        return one_line(text.replace(self._api_key, "***") if self._api_key else text)

    def _address(self, parts: SplitResult) -> str | None:
        """The checked IP address; None means that nobody asked for a check."""
        if self._check_address is None:
            return None
        address = self._check_address(parts.hostname or "")
        if address is None:
            raise Unreachable(f"{self.place} is not in the networks that this farm may reach.")
        return address

    def _target(self) -> SplitResult:
        if not (self._api_key.isascii() and self._api_key.isprintable()):
            raise Unauthorised("The API key has characters that no API key has.")
        try:
            parts = urlsplit(self._base_url)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.username is not None or parts.query or parts.fragment:
            raise Unreachable("The printer's address must look like http://host or https://host:port.")
        return parts

    def _headers(self, parts: SplitResult) -> dict[str, str]:
        # "identity": an answer is then as big as it looks, so the size limit is one.
        headers = {"Host": _host_header(parts), "Accept-Encoding": "identity", "Connection": "close"}
        if self._api_key:
            headers["X-Api-Key"] = self._api_key
        return headers

    def _exchange(
        self,
        method: str,
        path: str,
        timeout: tuple[float, float],
        *,
        params: Mapping[str, str] | None = None,
        data: bytes | Multipart | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        parts = self._target()
        path = f"{parts.path.rstrip('/')}{path}?{urlencode(params)}" if params else parts.path.rstrip("/") + path
        try:
            with closing(self._pool(parts)) as pool:
                response = pool.urlopen(
                    method,
                    path,
                    body=cast("bytes | None", data),  # or whatever can be read, which its types do not know
                    headers={**self._headers(parts), **(headers or {})},
                    timeout=Timeout(*timeout),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                )
                with response:
                    return self._answer(response, deadline=time.monotonic() + timeout[1])
        except (HTTPError, OSError, UnicodeError) as fault:
            raise self._translated(fault) from None

    def _pool(self, parts: SplitResult) -> HTTPConnectionPool:
        """For one connection: to the address that was checked; certificates are held against the name, as ever."""
        host = parts.hostname or ""
        address = self._address(parts) or host
        if parts.scheme == "http":
            return HTTPConnectionPool(address, parts.port or 80, blocksize=UPLOAD_BLOCK)
        trusted = ssl.create_default_context()
        return HTTPSConnectionPool(
            address, parts.port or 443, blocksize=UPLOAD_BLOCK, ssl_context=trusted, server_hostname=host
        )

    def _answer(self, response: BaseHTTPResponse, deadline: float) -> Answer:
        if 300 <= response.status < 400:
            raise _Redirected(f"{self.place} sends us on to another address. Give the printer's own address.")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _Unanswered(f"{self.place} answered in an encoding that we did not ask for.")
        body = bytearray()
        while chunk := response.read1(65_536):
            body += chunk
            if len(body) > MAX_ANSWER or time.monotonic() > deadline:
                raise _Unanswered(f"{self.place} answered too much or too slowly.")
        media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(response.status, media_type, bytes(body))

    def _translated(self, fault: Exception) -> DriverError:
        """Before the request was sent: Unreachable. After: _Unanswered, which the caller names."""
        if isinstance(fault, SSLError) and _HANDSHAKE_FAILED.search(str(fault)):
            return Unreachable(f"The certificate of {self.place} is not trusted.")
        if isinstance(fault, ConnectTimeoutError | NewConnectionError):
            return Unreachable(f"Nothing answers at {self.place}.")
        return _Unanswered(f"{self.place} was asked and did not answer.")

    def knock(self) -> None:
        """Whether anybody listens at the address. Raises Unreachable."""
        self._reached(self._target()).close()

    def connect(self, path: str) -> Socket:
        """An open WebSocket. Raises Unreachable or Garbled (the handshake was refused)."""
        parts = self._target()
        url = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}{parts.path.rstrip('/')}{path}"
        raw = self._connected(parts)
        link = Link(skip_utf8_validation=True)
        headers = [f"X-Api-Key: {self._api_key}"] if self._api_key else []
        try:
            link.connect(
                url,
                socket=raw,
                host=_host_header(parts),
                header=headers,
                suppress_origin=True,  # Moonraker refuses origins that it does not know
                redirect_limit=0,
                timeout=TIMEOUT[0],
            )
        except websocket.WebSocketTimeoutException:
            raw.close()
            raise Unreachable(f"{self.place} does not answer.") from None
        except (websocket.WebSocketException, OSError, ValueError):
            raw.close()
            raise Garbled(f"{self.place} does not offer the live connection that its kind of server has.") from None
        return Socket(link, self.place)

    def dial(self) -> Flow:
        """A connection for one GET whose answer is read as it comes; it sends no key. Raises Unreachable."""
        parts = self._target()
        return Flow(self._connected(parts), _host_header(parts))

    def _connected(self, parts: SplitResult) -> socket.socket:
        raw = self._reached(parts)
        try:
            if parts.scheme == "https":
                raw = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname or "")
        except ssl.SSLCertVerificationError:
            raise Unreachable(f"The certificate of {self.place} is not trusted.") from None
        except (OSError, UnicodeError):
            raise Unreachable(f"Nothing answers at {self.place}.") from None
        raw.settimeout(TIMEOUT[0])
        return raw

    def _reached(self, parts: SplitResult) -> socket.socket:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        try:
            return socket.create_connection((self._address(parts) or host, port), timeout=TIMEOUT[0])
        except (OSError, UnicodeError):
            raise Unreachable(f"Nothing answers at {self.place}.") from None


_JSON = {"Content-Type": "application/json"}

#: TLS faults before anything was sent: nobody we trust signed the certificate, or it is for another name.
_HANDSHAKE_FAILED = re.compile("CERTIFICATE_VERIFY_FAILED|doesn't match")


class _Unanswered(DriverError):
    """The request went out and no usable answer came. Unreachable for a read, Unclear for a write."""


class _Redirected(DriverError):
    """The server points elsewhere. Garbled for a read; a write was certainly not carried out: Refused."""


def _host_header(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


class Multipart:
    """A multipart/form-data body of text fields and one file, read from disk as it is sent.

    A file-like body: ``len()`` gives the exact Content-Length (OctoPrint refuses chunked bodies) and memory stays
    flat. ``progress(bytes of the file sent)`` may raise to give the upload up.
    """

    _BOUNDARY = "print-farm-7c1e5d0b9a3f42c6"

    def __init__(
        self,
        fields: Mapping[str, str],
        name: str,
        source: BinaryIO,
        size: int,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        head = "".join(f"{self._part(field)}\r\n\r\n{value}\r\n" for field, value in fields.items())
        head += f'{self._part("file")}; filename="{_quoted(name)}"\r\nContent-Type: application/octet-stream\r\n\r\n'
        self._head = head.encode()
        self._tail = f"\r\n--{self._BOUNDARY}--\r\n".encode()
        self._length = len(self._head) + size + len(self._tail)
        self._source = source
        self._size = size
        self._sent = 0
        self._progress = progress
        self._deadline = time.monotonic() + UPLOAD_TIMEOUT[1] + size / SLOWEST_UPLOAD

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._BOUNDARY}"

    def _part(self, field: str) -> str:
        return f'--{self._BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"'

    def __len__(self) -> int:
        return self._length

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self._deadline:
            raise _Unanswered("The upload was too slow and was given up.")
        if self._head:
            block, self._head = self._head, b""
            return block
        block = self._source.read(min(size if size > 0 else UPLOAD_BLOCK, self._size - self._sent))
        if block:
            self._sent += len(block)
            if self._progress is not None:
                self._progress(self._sent)
            return block
        block, self._tail = self._tail, b""
        return block


def _quoted(name: str) -> str:
    """As browsers do it (WHATWG HTML, multipart/form-data encoding): UTF-8, and three characters escaped."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


_PATH_SEGMENT = re.compile(r"^(?!\.{1,2}$)[^\x00-\x1f]+$")


def is_plain_path(path: str) -> bool:
    """Whether every segment is an ordinary name: a ``..`` in a URL would reach another part of the server's API."""
    return all(_PATH_SEGMENT.match(segment) for segment in path.split("/"))
