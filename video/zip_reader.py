"""Reads a zip from a stranger: its directory, and the unpacked bytes of one entry at a time.

One strict reader for the check at intake and for the job, so that the two cannot disagree; Python's
zipfile accepts more than it should. Every number is checked before anything is allocated or
unpacked. Names are only text. Format: APPNOTE.TXT 6.3, sections 4.3 and 4.5. Called by
frames_zip.py.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from errors import VideoUnreadable

MAX_ENTRIES = 1000
STORED, DEFLATED = 0, 8

_MAX_DIRECTORY_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCATOR_BYTES = 20
_LARGEST_OFFSET = (1 << 63) - 1  # of a file: larger ones raise in seek
_ZIP64 = 0xFFFFFFFF
"""In a field of 32 bits: the number is in the extra field 1, with 64 bits."""


class DamagedZip(ValueError):
    """The zip contradicts itself or the format."""


@dataclass(frozen=True)
class Entry:
    """One row of the directory. `at` is where its local header begins, `size` is unpacked bytes."""

    name: str
    encoded_name: bytes
    is_encrypted: bool
    method: int
    crc: int
    packed_size: int
    size: int
    at: int


def read_directory(file: IO[bytes]) -> list[Entry]:
    """All entries in their order: no two share bytes, and none reaches into the directory.

    Raises VideoUnreadable; for a damaged zip DamagedZip, struct.error, UnicodeDecodeError.
    """
    file_size = file.seek(0, 2)
    tail_at = max(0, file_size - _END.size - 0xFFFF)
    tail = _read_at(file, tail_at, file_size - tail_at)
    end = tail.rfind(b"PK\5\6")
    if end < 0 or end + _END.size > len(tail):
        raise DamagedZip("no end record")
    _, disk, first_disk, here, count, size, offset, _ = _END.unpack_from(tail, end)
    end += tail_at
    if end >= _LOCATOR_BYTES and _read_at(file, end - _LOCATOR_BYTES, 4) == b"PK\6\7":
        raise VideoUnreadable(
            "The zip is in the ZIP64 format, for very large archives.",
            hint=f"Make a plain zip of at most {MAX_ENTRIES} files.",
        )
    if count > MAX_ENTRIES or size > _MAX_DIRECTORY_BYTES:
        raise VideoUnreadable(
            f"The zip has {count} entries; at most {MAX_ENTRIES} are read.",
            hint="Send 16 to 121 frames.",
            entries=count,
            max_entries=MAX_ENTRIES,
        )
    directory_at = end - size
    # bytes before the zip itself, as in a self-extracting file, move all offsets
    before = directory_at - offset
    if before < 0 or (disk, first_disk, here) != (0, 0, count):
        raise DamagedZip("the end record contradicts itself")
    entries = list(_entries(_read_at(file, directory_at, size), count, before))
    _check_spans(file, entries, directory_at)
    return entries


def read_entry(file: IO[bytes], entry: Entry, most: int | None = None) -> bytes:
    """The unpacked bytes, all of them or the first `most`. Raises DamagedZip, zlib.error.

    At most `entry.size` bytes are unpacked; if all are, their number and checksum are checked.
    """
    if entry.method == STORED and entry.packed_size != entry.size:
        raise DamagedZip("a stored entry has two sizes")
    wanted = entry.size if most is None else min(most, entry.size)
    at, content = _data_at(file, entry), bytearray()
    left = entry.packed_size
    inflate = zlib.decompressobj(-15) if entry.method == DEFLATED else None
    while len(content) < wanted and left > 0 and not (inflate and inflate.eof):
        packed = _read_at(file, at, min(left, _CHUNK_BYTES, wanted if inflate is None else left))
        at, left = at + len(packed), left - len(packed)
        while packed and len(content) < wanted:
            room = wanted - len(content)
            content += inflate.decompress(packed, room) if inflate else packed[:room]
            packed = inflate.unconsumed_tail if inflate else b""
    if len(content) < wanted:
        raise DamagedZip("an entry is shorter than the directory says")
    if wanted == entry.size and zlib.crc32(content) != entry.crc:
        raise DamagedZip("an entry has another checksum")
    return bytes(content)


def _entries(directory: bytes, count: int, before: int) -> Iterator[Entry]:
    """Exactly `count` entries that fill the directory exactly."""
    at = 0
    for _ in range(count):
        row = _ENTRY.unpack_from(directory, at)
        signature, _, _, flags, method, _, _, crc, packed, size, *lengths = row[:13]
        name_size, extra_size, comment_size = lengths
        name_at = at + _ENTRY.size
        extra_at = name_at + name_size
        at = extra_at + extra_size + comment_size
        if signature != b"PK\1\2" or at > len(directory):
            raise DamagedZip("the directory is cut off")
        wide = [size, packed, row[-1]]
        if _ZIP64 in wide:
            wide = _wide(wide, directory[extra_at : extra_at + extra_size])
        encoded = directory[name_at:extra_at]
        name = encoded.decode("utf-8" if flags & 0x800 else "cp437")
        yield Entry(name, encoded, bool(flags & 1), method, crc, wide[1], wide[0], before + wide[2])
    if at != len(directory):
        raise DamagedZip("the directory has more entries than the end record says")


def _wide(numbers: Sequence[int], extra: bytes) -> list[int]:
    """Sizes and offset with those of 64 bits from the extra field 1 (section 4.5.3)."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + size]
            wide = (number for (number,) in struct.iter_unpack("<Q", field[: len(field) // 8 * 8]))
            found = [next(wide, None) if number == _ZIP64 else number for number in numbers]
            if None in found:
                break
            return [number for number in found if number is not None]
        at += 4 + size
    raise DamagedZip("a size is missing")


def _check_spans(file: IO[bytes], entries: Sequence[Entry], directory_at: int) -> None:
    """Refuse entries that overlap each other or the directory: small zips that unpack to much."""
    spans = sorted((entry.at, _data_at(file, entry) + entry.packed_size) for entry in entries)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise DamagedZip("entries overlap")
    if spans and spans[-1][1] > directory_at:
        raise DamagedZip("an entry reaches into the directory")


def _data_at(file: IO[bytes], entry: Entry) -> int:
    """Where the packed bytes begin: after the local header, which must have the same name."""
    header = _read_at(file, entry.at, _LOCAL.size + len(entry.encoded_name))
    signature, *_, name_size, extra_size = _LOCAL.unpack_from(header)
    if signature != b"PK\3\4" or name_size != len(entry.encoded_name):
        raise DamagedZip("an entry is not where the directory says")
    if header[_LOCAL.size :] != entry.encoded_name:
        raise DamagedZip("an entry has two names")
    return entry.at + len(header) + int(extra_size)


def _read_at(file: IO[bytes], at: int, size: int) -> bytes:
    """Exactly `size` bytes."""
    found = b""
    if at <= _LARGEST_OFFSET:
        file.seek(at)
        found = file.read(size)
    if len(found) != size:
        raise DamagedZip("the file is cut off")
    return found
