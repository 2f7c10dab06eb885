"""Reads a zip of frames: which entries are pictures, their order and size. Decodes no picture.

Names only sort the entries; they are never used as paths. Every size is checked before anything is
unpacked. probe.py and frames.py pass the bytes to ffmpeg.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from errors import VideoUnreadable

Kind = Literal["png_pipe", "jpeg_pipe", "webp_pipe"]

MAX_ENTRIES = 1000
MAX_PICTURE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_RATIO = 200
"""Pictures are already compressed: a higher ratio is a zip bomb."""

_MAX_DIRECTORY_BYTES = 1 << 20
_HEAD_BYTES = 1 << 20  # a JPEG's size may follow its EXIF data and colour profile
_END_RECORD = struct.Struct("<4s4H2LH")
_NOT_FRAMES = {"thumbs.db", "desktop.ini"}
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError,
           NotImplementedError, RuntimeError, OverflowError, LookupError)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One entry that starts like a PNG, JPEG or WebP file."""

    entry: zipfile.ZipInfo
    kind: Kind


class FramesZip:
    """An open zip; `pictures` in natural order. Raises VideoUnreadable, here and when read."""

    def __init__(self, path: Path) -> None:
        with _refusing_broken_zips(), contextlib.ExitStack() as undo:
            file = undo.enter_context(open(path, "rb"))
            _check_directory(file)
            self._zip = undo.enter_context(zipfile.ZipFile(file))
            entries = [entry for entry in self._zip.infolist() if _is_frame(entry)]
            _check_entries(entries)
            entries.sort(key=lambda entry: _natural(entry.filename))
            kinds = [_kind(self._read(entry, 16)) for entry in entries]
            if not kinds:
                raise VideoUnreadable(
                    "The zip contains no files.", hint="Put PNG, JPEG or WebP frames into the zip."
                )
            if None in kinds:
                raise VideoUnreadable(
                    f"{kinds.count(None)} of the {len(kinds)} files in the zip are not pictures.",
                    hint="Put PNG, JPEG or WebP frames into the zip, and nothing else.",
                )
            pairs = zip(entries, kinds, strict=True)
            self.pictures = [Picture(entry, kind) for entry, kind in pairs if kind]
            self._open = undo.pop_all()

    def __enter__(self) -> FramesZip:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def one_size(self, pictures: Sequence[Picture]) -> tuple[int, int]:
        """Width and height in the headers of these pictures, which must all be the same."""
        with _refusing_broken_zips():
            sizes = [picture_size(self._read(picture.entry, _HEAD_BYTES)) for picture in pictures]
        if None in sizes:
            raise VideoUnreadable(
                f"{sizes.count(None)} of the {len(sizes)} pictures in the zip have no valid header."
            )
        found = sorted({size for size in sizes if size is not None})
        if len(found) > 1:
            (w, h), (v, g) = found[0], found[-1]
            raise VideoUnreadable(
                f"The pictures in the zip differ in size: {w} x {h} and {v} x {g}, for example.",
                hint="Make all frames the same size.",
                sizes=len(found),
            )
        return found[0]

    def contents(self, pictures: Sequence[Picture]) -> Iterator[bytes]:
        """The content of the files, one after the other; one at a time is in memory."""
        for picture in pictures:
            with _refusing_broken_zips():
                content = self._read(picture.entry, picture.entry.file_size)
            yield _first_jpeg(content) if picture.kind == "jpeg_pipe" else content

    def _read(self, entry: zipfile.ZipInfo, most: int) -> bytes:
        with self._zip.open(entry) as unpacked:
            return unpacked.read(most)


# Not imagesize 2.0.1: 40 ms for a hostile JPEG (here 0.02), and VP8's scale bits in the size.
def picture_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from a picture file's first bytes; None if they do not contain them."""
    kind = _kind(head)
    try:
        if kind == "png_pipe":
            width, height = struct.unpack_from(">II", head, 16)
        elif kind == "webp_pipe":
            width, height = _webp_size(head)
        elif kind == "jpeg_pipe":
            width, height = _jpeg_size(head)
        else:
            return None
    except (struct.error, IndexError):
        return None
    return (width, height) if width > 0 and height > 0 else None


@contextlib.contextmanager
def _refusing_broken_zips() -> Iterator[None]:
    """Map the many errors of zipfile to VideoUnreadable."""
    try:
        yield
    except _BROKEN as exc:
        raise VideoUnreadable(
            "The zip is damaged or incomplete.", hint="Make the zip again and send it once more."
        ) from exc


def _check_directory(file: IO[bytes]) -> None:
    """Limit the directory before zipfile reads all of it. Finds the end record as zipfile does."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END_RECORD.size - 65535))
    tail = file.read()
    at = len(tail) - _END_RECORD.size
    if at < 0 or tail[at : at + 4] != b"PK\5\6" or tail[-2:] != b"\0\0":
        at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) < at + _END_RECORD.size:
        raise zipfile.BadZipFile
    _, _, _, _, entries, directory_bytes, _, _ = _END_RECORD.unpack_from(tail, at)
    zip64 = tail[max(0, at - 20) : at].startswith(b"PK\6\7")
    if zip64 or entries > MAX_ENTRIES or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise _too_many(entries)
    file.seek(0)


def _check_entries(entries: Sequence[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _too_many(len(entries))
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise VideoUnreadable("The zip is encrypted.", hint="Make it without a password.")
    if not {entry.compress_type for entry in entries} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise VideoUnreadable(
            "The zip is compressed in an unusual way.", hint="Use stored or deflated entries."
        )
    largest = max((entry.file_size for entry in entries), default=0)
    total = sum(entry.file_size for entry in entries)
    if largest > MAX_PICTURE_BYTES or total > MAX_TOTAL_BYTES:
        raise VideoUnreadable(
            f"The zip unpacks to {total} bytes, its largest file to {largest}; at most "
            f"{MAX_TOTAL_BYTES} and {MAX_PICTURE_BYTES} are unpacked.",
            hint="Send fewer or smaller frames.",
            unpacked_bytes=total,
            max_unpacked_bytes=MAX_TOTAL_BYTES,
        )
    if any(entry.file_size > MAX_RATIO * max(entry.compress_size, 512) for entry in entries):
        raise VideoUnreadable(
            "The zip contains a file that unpacks to far more than its packed size."
        )


def _too_many(entries: int) -> VideoUnreadable:
    return VideoUnreadable(
        f"The zip has {entries} entries; at most {MAX_ENTRIES} are read.",
        hint="Send 16 to 31 frames.",
        entries=entries,
        max_entries=MAX_ENTRIES,
    )


def _is_frame(entry: zipfile.ZipInfo) -> bool:
    """False for folders and for files that file managers add."""
    path = PurePosixPath(entry.filename.replace("\\", "/"))  # written by some Windows programs
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts if part != "..")
    return not (entry.is_dir() or hidden or path.name.lower() in _NOT_FRAMES)


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts frame_2 before frame_10; names that differ only in zeros or case by the plain name."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    key = [
        (0, int(part[:4000]), "") if part[0] in "0123456789" else (1, 0, part.casefold())
        for part in parts
    ]
    return key, name


def _kind(head: bytes) -> Kind | None:
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png_pipe"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg_pipe"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp_pipe"
    return None


def _webp_size(head: bytes) -> tuple[int, int]:
    """VP8X, lossless and lossy: https://developers.google.com/speed/webp/docs/riff_container"""
    form = head[12:16]
    if form == b"VP8X":
        width, height = (int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
        return 1 + width, 1 + height
    if form == b"VP8L":
        (bits,) = struct.unpack_from("<I", head, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack_from("<HH", head, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg_size(head: bytes) -> tuple[int, int]:
    """From the first start-of-frame segment; IndexError or struct.error if there is none."""
    at = 2
    while True:
        while head[at] == 0xFF:
            at += 1
        marker, at = head[at], at + 1
        (length,) = struct.unpack_from(">H", head, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", head, at + 3)
            return width, height
        at += length
        if length < 2 or head[at] != 0xFF:
            raise IndexError


def _first_jpeg(content: bytes) -> bytes:
    """The bytes without a second picture (gain map, stereo), which would count as a frame."""
    scan = content.find(b"\xff\xda")
    end = content.find(b"\xff\xd9", scan) + 2
    return content[:end] if end > 2 and b"\xff\xd8\xff" in content[end:] else content
