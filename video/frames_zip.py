"""A zip of frames: which entries are pictures, their order, size and orientation.

Decodes no picture. Names only sort the entries; they are never used as paths. zip_reader.py reads
the zip and pictures.py the pictures; probe.py and frames.py pass their bytes to ffmpeg.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from errors import VideoUnreadable
from video.pictures import DamagedPicture, FirstPicture, Kind, first_picture, picture_kind
from video.zip_reader import DEFLATED, STORED, DamagedZip, Entry, read_directory, read_entry

MAX_PICTURE_BYTES = 64 << 20
MAX_TOTAL_BYTES = 512 << 20
MAX_RATIO = 200
"""Pictures are already compressed: a higher ratio is a zip bomb."""

_NOT_FRAMES = {"thumbs.db", "desktop.ini"}
_BROKEN = (DamagedZip, zlib.error, struct.error, OSError, UnicodeDecodeError)


@dataclass(frozen=True)
class Picture:
    """One entry that starts like a PNG, JPEG or WebP file."""

    entry: Entry
    kind: Kind


@dataclass(frozen=True)
class Still:
    """A picture whose structure was read: its size as seen, and EXIF's orientation, 1 to 8."""

    picture: Picture
    width: int
    height: int
    orientation: int


class FramesZip:
    """An open zip; `pictures` in natural order. Raises VideoUnreadable, here and when read."""

    def __init__(self, path: Path) -> None:
        with _refusing_broken_zips(), contextlib.ExitStack() as undo:
            self._file = undo.enter_context(open(path, "rb"))
            entries = [entry for entry in read_directory(self._file) if _is_frame(entry.name)]
            _check_entries(entries)
            entries.sort(key=lambda entry: _natural(entry.name))
            kinds = [picture_kind(read_entry(self._file, entry, 16)) for entry in entries]
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

    def stills(self, pictures: Sequence[Picture]) -> list[Still]:
        """The pictures with their sizes, which must all be the same; at least one picture."""
        found = [self._still(picture) for picture in pictures]
        if None in found:
            raise VideoUnreadable(
                f"{found.count(None)} of the {len(found)} pictures in the zip are damaged."
            )
        stills = [still for still in found if still is not None]
        sizes = sorted({(still.width, still.height) for still in stills})
        if len(sizes) > 1:
            (w, h), (v, g) = sizes[0], sizes[-1]
            raise VideoUnreadable(
                f"The pictures in the zip differ in size: {w} x {h} and {v} x {g}, for example.",
                hint="Make all frames the same size.",
                sizes=len(sizes),
            )
        return stills

    def contents(self, stills: Sequence[Still]) -> Iterator[bytes]:
        """The first picture of each file, one after the other; one at a time is in memory."""
        for still in stills:
            yield self._first(still.picture).content

    def _still(self, picture: Picture) -> Still | None:
        """None if the picture is damaged."""
        try:
            found = self._first(picture)
        except DamagedPicture:
            return None
        return Still(picture, found.width, found.height, found.orientation)

    def _first(self, picture: Picture) -> FirstPicture:
        with _refusing_broken_zips():
            content = read_entry(self._file, picture.entry)
        return first_picture(content)


@contextlib.contextmanager
def _refusing_broken_zips() -> Iterator[None]:
    """Map what reading a zip raises to VideoUnreadable."""
    try:
        yield
    except _BROKEN as exc:
        raise VideoUnreadable(
            "The zip is damaged or incomplete.", hint="Make the zip again and send it once more."
        ) from exc


def _check_entries(entries: Sequence[Entry]) -> None:
    if any(entry.is_encrypted for entry in entries):
        raise VideoUnreadable("The zip is encrypted.", hint="Make it without a password.")
    if not {entry.method for entry in entries} <= {STORED, DEFLATED}:
        raise VideoUnreadable(
            "The zip is compressed in an unusual way.", hint="Use stored or deflated entries."
        )
    largest = max((entry.size for entry in entries), default=0)
    total = sum(entry.size for entry in entries)
    if largest > MAX_PICTURE_BYTES or total > MAX_TOTAL_BYTES:
        raise VideoUnreadable(
            f"The zip unpacks to {total} bytes, its largest file to {largest}; at most "
            f"{MAX_TOTAL_BYTES} and {MAX_PICTURE_BYTES} are unpacked.",
            hint="Send fewer or smaller frames.",
            unpacked_bytes=total,
            max_unpacked_bytes=MAX_TOTAL_BYTES,
        )
    if any(entry.size > MAX_RATIO * max(entry.packed_size, 512) for entry in entries):
        raise VideoUnreadable(
            "The zip contains a file that unpacks to far more than its packed size."
        )


def _is_frame(name: str) -> bool:
    """False for folders and for files that file managers add."""
    path = PurePosixPath(name.replace("\\", "/"))  # written by some Windows programs
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts if part != "..")
    return not (name.endswith("/") or hidden or path.name.lower() in _NOT_FRAMES)


def _natural(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts frame_2 before frame_10; names that differ only in zeros or case by the plain name."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    key = [
        (0, int(part[:4000]), "") if part[0] in "0123456789" else (1, 0, part.casefold())
        for part in parts
    ]
    return key, name
