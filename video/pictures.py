"""Walks the structure of a PNG, JPEG or WebP file: its size, EXIF orientation and first picture.

Follows the lengths in the file, so that a thumbnail inside the EXIF data and a second picture after
the first one (MPF, gain maps, motion photos) are told apart from the picture itself. Decodes no
pixel. Called by frames_zip.py.
Formats: ITU-T T.81 B.1, PNG (third edition) 5.3, the WebP container specification, EXIF 2.3 4.6.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Literal

from errors import VideoUnreadable

Kind = Literal["png_pipe", "jpeg_pipe", "webp_pipe"]

_MAX_SEGMENTS = 10_000
_MAX_CHUNKS = 100_000
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
"""A marker with a length, or SOI or EOI; not the stuffed zeros and restarts inside a scan."""
_SOI, _EOI, _SOS, _APP1, _DAC = 0xD8, 0xD9, 0xDA, 0xE1, 0xCC
_NOT_FRAMES = (0xC4, 0xC8, _DAC)  # tables among the numbers of the frame headers
_ARITHMETIC = range(0xC9, 0xD0)
_SIDEWAYS = range(5, 9)
_EXIF = b"Exif\0\0"


class DamagedPicture(ValueError):
    """The file's structure is broken, or it is none of the three formats."""


@dataclass(frozen=True)
class FirstPicture:
    """One picture alone, as bytes for a decoder. `orientation` is EXIF's, 1 to 8.

    `width` and `height` are those of the picture as it is to be seen, after turning.
    """

    content: bytes
    width: int
    height: int
    orientation: int


def picture_kind(head: bytes) -> Kind | None:
    """The format by the first 12 bytes."""
    if head.startswith(_PNG):
        return "png_pipe"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg_pipe"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp_pipe"
    return None


def first_picture(content: bytes) -> FirstPicture:
    """Raises DamagedPicture, or VideoUnreadable for a picture of a kind that is not taken."""
    kind = picture_kind(content)
    try:
        if kind == "png_pipe":
            found = _png(content)
        elif kind == "jpeg_pipe":
            found = _jpeg(content)
        elif kind == "webp_pipe":
            found = _webp(content)
        else:
            raise DamagedPicture("no PNG, JPEG or WebP")
    except (struct.error, IndexError) as exc:
        raise DamagedPicture("cut off") from exc
    if min(found.width, found.height) < 1:
        raise DamagedPicture("no size")
    if found.orientation in _SIDEWAYS:
        return replace(found, width=found.height, height=found.width)
    return found


def _png(content: bytes) -> FirstPicture:
    """Of an APNG this is the picture that programs without animation show."""
    length, kind, width, height = struct.unpack_from(">I4sII", content, 8)
    if (length, kind) != (13, b"IHDR"):
        raise DamagedPicture("no header")
    at, orientation = 8, 1
    for _ in range(_MAX_CHUNKS):
        length, kind = struct.unpack_from(">I4s", content, at)
        data_at, at = at + 8, at + 12 + length
        if at > len(content):
            raise DamagedPicture("a chunk is cut off")
        if kind == b"eXIf":
            orientation = _orientation(content[data_at : data_at + length])
        if kind == b"IEND":
            return FirstPicture(content[:at], width, height, orientation)
    raise DamagedPicture("too many chunks")


def _jpeg(content: bytes) -> FirstPicture:
    """A picture whose end is missing is taken as it is: decoders show what there is."""
    at, end, orientation = 2, len(content), None
    size: tuple[int, int] | None = None
    has_scan = False
    for _ in range(_MAX_SEGMENTS):
        found = _JPEG_MARKER.search(content, at)
        if found is None:
            break
        marker = found[1][0]
        if marker in (_SOI, _EOI):
            end = found.end() if marker == _EOI else found.start()
            break
        (length,) = struct.unpack_from(">H", content, found.end())
        data_at, at = found.end() + 2, found.end() + length
        if length < 2 or at > len(content):
            raise DamagedPicture("a segment is cut off")
        if marker in _ARITHMETIC:
            raise _refused("is a JPEG with arithmetic coding, which hardly any program can read")
        if 0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES and size is None:
            height, width = struct.unpack_from(">xHH", content, data_at)
            size = width, height
        if marker == _APP1 and orientation is None and content.startswith(_EXIF, data_at):
            orientation = _orientation(content[data_at:at])
        has_scan = has_scan or marker == _SOS
    else:
        raise DamagedPicture("too many segments")
    if size is None or not has_scan:
        raise DamagedPicture("no picture")
    return FirstPicture(content[:end], *size, orientation or 1)


def _webp(content: bytes) -> FirstPicture:
    """Of an animation this is its first frame."""
    (riff_size,) = struct.unpack_from("<I", content, 4)
    end = 8 + riff_size + riff_size % 2
    if end > len(content) + riff_size % 2:
        raise DamagedPicture("cut off")
    at, orientation, whole = 12, 1, content[:end]
    canvas: tuple[int, int] | None = None
    first_frame = b""
    for _ in range(_MAX_CHUNKS):
        if at + 8 > min(end, len(content)):
            break
        kind, size = struct.unpack_from("<4sI", content, at)
        data_at, at = at + 8, at + 8 + size + size % 2
        if data_at + size > len(whole):
            raise DamagedPicture("a chunk is cut off")
        if kind == b"EXIF":
            orientation = _orientation(content[data_at : data_at + size])
        elif kind == b"ANMF" and not first_frame:
            first_frame = content[data_at : data_at + size]
        elif kind in (b"VP8X", b"VP8L", b"VP8 ") and canvas is None:
            canvas = _webp_size(kind, content[data_at : data_at + size])
    else:
        raise DamagedPicture("too many chunks")
    if canvas is None:
        raise DamagedPicture("no picture")
    if first_frame:
        whole = _still_webp(first_frame, canvas)
    return FirstPicture(whole, *canvas, orientation)


def _webp_size(kind: bytes, data: bytes) -> tuple[int, int]:
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 1)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", data, 6)
    return width & 0x3FFF, height & 0x3FFF


def _still_webp(frame: bytes, canvas: tuple[int, int]) -> bytes:
    """A file with one frame of an animation; the frame must fill the canvas."""
    left, top, width, height = (int.from_bytes(frame[k : k + 3], "little") for k in (0, 3, 6, 9))
    if (left, top, 1 + width, 1 + height) != (0, 0, *canvas):
        raise _refused("is an animation whose first frame is only a part of the picture")
    chunks = frame[16:]
    if chunks.startswith(b"ALPH"):  # alpha beside VP8 needs the extended header
        chunks = struct.pack("<4sI", b"VP8X", 10) + b"\x10\0\0\0" + frame[6:12] + chunks
    return struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks


def _orientation(exif: bytes) -> int:
    """EXIF's tag 0x0112 of the first directory, 1 if there is none: a TIFF file in small."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 10:
        return 1
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    if at + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, at)
    for row in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, row)
        if (tag, kind, values) == (0x0112, 3, 1):
            return value if 1 <= value <= 8 else 1
    return 1


def _refused(why: str) -> VideoUnreadable:
    return VideoUnreadable(
        f"A picture in the zip {why}.",
        hint="Save the frames again as plain PNG files, one picture each.",
    )
