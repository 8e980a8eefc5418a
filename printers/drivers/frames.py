"""Pictures of cameras: what counts as one, and how a multipart stream is taken apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from printers.drivers.base import Garbled

#: bytes of one picture
MAX_PICTURE = 4 * 2**20
#: bytes of the lines between two pictures
_MAX_HEAD = 16_384
#: media type -> what a file of it begins with (WebP: a RIFF container)
_BEGINNINGS = {"image/jpeg": b"\xff\xd8\xff", "image/png": b"\x89PNG\r\n\x1a\n", "image/webp": b"RIFF"}
#: what cameras call them
_TYPES = {**{kind: kind for kind in _BEGINNINGS}, "image/jpg": "image/jpeg", "image/pjpeg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture. ``media_type`` is image/jpeg, image/png or image/webp, and ``data`` begins like it."""

    media_type: str
    data: bytes


def picture(said: str, data: bytes) -> Picture:
    """A picture that the camera calls a ``said``. Raises Garbled for everything that is not what it is called: a page
    or a drawing with scripts in it must not get into a browser under the farm's name."""
    kind = _TYPES.get(plain_type(said))
    whole = kind is not None and data.startswith(_BEGINNINGS[kind])
    if kind is None or not whole or (kind == "image/webp" and data[8:12] != b"WEBP"):
        raise Garbled("The camera sends something that is not a picture.")
    return Picture(kind, data)


def plain_type(header: str) -> str:
    """The media type of a Content-Type header."""
    return header.partition(";")[0].strip().lower()


class Parts:
    """multipart/x-mixed-replace (RFC 2046, 5.1), fed as it comes. The delimiter is read from the body: many cameras
    announce another one than they write."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._delimiter = b""
        self._type = ""
        self._length: int | None = None
        self._in_body = False
        self._searched = 0
        self.ended = False

    def feed(self, block: bytes) -> list[Picture]:
        """The pictures that are whole now. Raises Garbled."""
        self._buffer += block
        found = []
        while not self.ended:
            if not self._in_body and not self._take_head():
                break
            data = self._take_body()
            if data is None:
                break
            found.append(picture(self._type, data))
        return found

    def _take_head(self) -> bool:
        """Whether the lines before a picture were all there."""
        end = self._buffer.find(b"\r\n\r\n", self._blank())
        if end < 0:
            self.ended = bool(self._delimiter) and bytes(self._buffer.strip()) == self._delimiter + b"--"
            if len(self._buffer) > _MAX_HEAD:
                raise Garbled("The camera sends something that is not a stream of pictures.")
            return False
        lines = bytes(self._buffer[:end]).split(b"\r\n")
        del self._buffer[: end + 4]
        self._read_head(lines)
        return True

    def _blank(self) -> int:
        """How many empty lines come first: the end of the picture before, and what some cameras add to it."""
        return len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))

    def _read_head(self, lines: list[bytes]) -> None:
        first = next((n for n, line in enumerate(lines) if line.startswith(b"--")), None)
        if first is None or len(b"".join(lines)) > _MAX_HEAD:
            raise Garbled("The camera sends something that is not a stream of pictures.")
        self._delimiter = lines[first].rstrip()
        pairs = (line.decode("latin-1").partition(":") for line in lines[first + 1 :])
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = headers.get("content-length", "")
        self._type = headers.get("content-type", "image/jpeg")
        self._length = int(length) if length.isascii() and length.isdigit() and len(length) < 12 else None
        self._in_body, self._searched = True, 0
        self._check_size(self._length or 0)

    def _take_body(self) -> bytes | None:
        """The bytes of the picture, once they are all there."""
        if self._length is not None:
            end = self._length if len(self._buffer) >= self._length else -1
        else:
            end = self._buffer.find(b"\r\n" + self._delimiter, self._searched)
            self._searched = max(0, len(self._buffer) - len(self._delimiter) - 2)
        if end < 0:
            self._check_size(len(self._buffer))
            return None
        self._check_size(end)
        data = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._in_body = False
        return data

    def _check_size(self, size: int) -> None:
        if size > MAX_PICTURE:
            raise Garbled(f"The camera sends pictures of more than {MAX_PICTURE // 2**20} MB.")
