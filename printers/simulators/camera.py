"""The camera of a simulated printer: what it sees is drawn, with the time, so that one can tell whether it is live.

Served as mjpg-streamer does it, which most real printers have: ``/webcam/?action=snapshot`` and ``?action=stream``.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from printers.simulators.machine import Machine
from printers.simulators.web import Request, Response

if TYPE_CHECKING:
    from PIL import ImageDraw

CAMERA_PATH = "/webcam/"
SNAPSHOT, STREAM = f"{CAMERA_PATH}?action=snapshot", f"{CAMERA_PATH}?action=stream"
#: s between two pictures of the stream
EVERY_S = 0.2
_BOUNDARY = "boundarydonotcross"
_SIZE = (640, 480)
#: pixels: the bed's corners as the camera sees them (front left, front right, back right, back left)
_BED = ((90, 420), (550, 420), (470, 270), (170, 270))
#: how high a whole print and the whole machine look
_PRINT_HEIGHT, _FRAME_TOP = 150, 50
_PLASTIC = (240, 138, 36)


def answer(request: Request, machine: Machine, name: str) -> Response:
    """What is at :data:`CAMERA_PATH`."""
    if request.query.get("action") == "stream":
        kind = f"multipart/x-mixed-replace;boundary={_BOUNDARY}"
        return Response(200, content_type=kind, stream=_stream(machine, name))
    return Response(200, picture(machine, name), "image/jpeg", {"Set-Cookie": "camera=1"})


async def _stream(machine: Machine, name: str) -> AsyncIterator[bytes]:
    while True:
        data = picture(machine, name)
        head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        yield head.encode() + data + b"\r\n"
        await asyncio.sleep(EVERY_S)


def picture(machine: Machine, name: str) -> bytes:
    """A JPEG of 640 x 480."""
    from PIL import Image, ImageDraw  # only those that are looked at pay for it

    image = Image.new("RGB", _SIZE, (34, 38, 44))
    draw = ImageDraw.Draw(image)
    _draw_frame(draw)
    top = _draw_print(draw, machine)
    _draw_head(draw, machine, top)
    _draw_words(draw, machine, name)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _draw_frame(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 330, *_SIZE), fill=(46, 50, 56))
    for x in (110, 510):
        draw.rectangle((x, _FRAME_TOP, x + 20, 330), fill=(70, 76, 84))
    draw.rectangle((110, _FRAME_TOP - 12, 530, _FRAME_TOP + 8), fill=(84, 90, 98))
    draw.polygon(_BED, fill=(60, 66, 74), outline=(120, 128, 138))
    for n in range(1, 6):
        draw.line((_on_bed(n / 6, 0), _on_bed(n / 6, 1)), fill=(76, 82, 92))
        draw.line((_on_bed(0, n / 6), _on_bed(1, n / 6)), fill=(76, 82, 92))


def _on_bed(x: float, y: float) -> tuple[float, float]:
    """Where a point of the bed (both 0..1, y away from the camera) is in the picture."""
    left = _BED[0][0] + (_BED[3][0] - _BED[0][0]) * y
    right = _BED[1][0] + (_BED[2][0] - _BED[1][0]) * y
    return left + (right - left) * x, _BED[0][1] + (_BED[3][1] - _BED[0][1]) * y


def _draw_print(draw: ImageDraw.ImageDraw, machine: Machine) -> float:
    """A box that grows with the job; how high it is, in pixels."""
    height = _PRINT_HEIGHT * machine.job.progress if machine.job else 0.0
    front, back = [_on_bed(x, 0.35) for x in (0.33, 0.67)], [_on_bed(x, 0.65) for x in (0.33, 0.67)]
    if height < 1:
        return 0.0
    (left, base), (right, _) = front
    draw.rectangle((left, base - height, right, base), fill=_PLASTIC)
    for y in range(0, int(height), 6):
        draw.line((left, base - y, right, base - y), fill=(214, 118, 24))
    lid = [front[0], front[1], back[1], back[0]]
    draw.polygon([(x, y - height) for x, y in lid], fill=(250, 170, 84))
    return height


def _draw_head(draw: ImageDraw.ImageDraw, machine: Machine, top: float) -> None:
    width, depth, _ = machine.volume
    x, y = (min(max(at / most, 0.0), 1.0) for at, most in zip(machine.position, (width, depth), strict=False))
    at_x, at_y = _on_bed(0.15 + 0.7 * x, 0.3 + 0.4 * y)
    tip = at_y - top - (4 if machine.job else 60)
    hot = machine.heaters["tool0"].actual > 60
    draw.rectangle((110, tip - 66, 530, tip - 56), fill=(104, 112, 122))
    draw.rectangle((at_x - 26, tip - 84, at_x + 26, tip - 22), fill=(28, 110, 94))
    draw.polygon(((at_x - 11, tip - 22), (at_x + 11, tip - 22), (at_x, tip)), fill=(232, 84, 52) if hot else "silver")


def _draw_words(draw: ImageDraw.ImageDraw, machine: Machine, name: str) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(18)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5]
    heat = f"{machine.heaters['tool0'].actual:.0f} / {machine.heaters['bed'].actual:.0f} C"
    done = f"{machine.job.progress:.0%}" if machine.job else "idle"
    draw.rectangle((0, 446, *_SIZE), fill="black")
    draw.text((12, 452), f"{name}  {now}", fill="white", font=font)
    draw.text((_SIZE[0] - 12, 452), f"{done}  {heat}", fill="white", font=font, anchor="ra")
