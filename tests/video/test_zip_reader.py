"""The zip reader: what it reads, byte for byte, and every way in which a zip may lie."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from errors import VideoUnreadable
from video.zip_reader import MAX_ENTRIES, DamagedZip, read_directory, read_entry

FILES = {f"frames/{k:02}.bin": os.urandom(40) + bytes(200 * k) for k in range(20)}
BROKEN = (DamagedZip, UnicodeDecodeError, struct.error, zlib.error)


def packed(method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
        archive.comment = comment
    return buffer.getvalue()


def contents(content: bytes) -> dict[str, bytes]:
    file = io.BytesIO(content)
    return {entry.name: read_entry(file, entry) for entry in read_directory(file)}


def streamed() -> bytes:
    """Written without seeking: sizes follow the data (data descriptors)."""

    class Pipe(io.RawIOBase):
        written = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.written += bytes(data)
            return len(bytes(data))

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return bytes(pipe.written)


def wide_entries(*, moved: int = 0) -> bytes:
    """The same zip with all sizes and offsets in the ZIP64 extra field, as some programs do."""
    plain = packed()
    end = plain.rindex(b"PK\5\6")
    (at,) = struct.unpack_from("<L", plain, end + 16)
    first, rows = at, b""
    while plain[at : at + 4] == b"PK\1\2":
        row = bytearray(plain[at : at + 46])
        (name,) = struct.unpack_from("<H", row, 28)
        wide = [*reversed(struct.unpack_from("<LL", row, 20)), *struct.unpack_from("<L", row, 42)]
        wide[2] += moved
        row[20:28], row[42:46] = b"\xff" * 8, b"\xff" * 4
        row[30:32] = struct.pack("<H", 28)
        rows += bytes(row) + plain[at + 46 : at + 46 + name] + struct.pack("<HHQQQ", 1, 24, *wide)
        at += 46 + name
    tail = bytearray(plain[end:])
    struct.pack_into("<L", tail, 12, len(rows))
    return plain[:first] + rows + bytes(tail)


SOUND: dict[str, Callable[[], bytes]] = {
    "stored": lambda: packed(zipfile.ZIP_STORED),
    "deflated": packed,
    "with a comment": lambda: packed(comment=b"made by hand"),
    "with the longest comment": lambda: packed(comment=b"c" * 65_535),
    "behind other bytes": lambda: b"PK\3\4 a program that unpacks itself" + packed(),
    "behind another zip": lambda: packed(zipfile.ZIP_STORED) + packed(),
    "before other bytes": lambda: packed() + b"\r\n" + bytes(1000),
    "streamed": streamed,
    "sizes in the ZIP64 field": wide_entries,
}


@pytest.mark.parametrize("form", SOUND)
def test_every_sound_form_is_read_as_zipfile_reads_it(form: str) -> None:
    made = SOUND[form]()
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        theirs = {name: archive.read(name) for name in archive.namelist()}
    assert contents(made) == FILES == theirs


def test_the_first_bytes_of_an_entry_are_read_alone() -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO(packed(method))
        for entry in read_directory(file):
            assert read_entry(file, entry, 16) == FILES[entry.name][:16]


def changed(change: Callable[[bytearray, int, int], None]) -> bytes:
    """A zip after `change(content, place of the first row of the directory, of the end record)`."""
    content = bytearray(packed())
    end = content.rindex(b"PK\5\6")
    change(content, struct.unpack_from("<L", content, end + 16)[0], end)
    return bytes(content)


def put(form: str, where: str, offset: int, value: int) -> bytes:
    """A zip with one number changed, in the first `local` header, first `row`, or `end` record."""

    def change(content: bytearray, row: int, end: int) -> None:
        struct.pack_into(form, content, {"local": 0, "row": row, "end": end}[where] + offset, value)

    return changed(change)


def renamed(old: bytes, new: bytes, *, utf8: bool = False) -> bytes:
    content = bytearray(packed().replace(old, new))
    if utf8:
        content[6:8] = struct.pack("<H", 0x800)
        at = content.index(b"PK\1\2")
        content[at + 8 : at + 10] = struct.pack("<H", 0x800)
    return bytes(content)


def overlapping() -> bytes:
    """Two rows of the directory for the same bytes."""

    def change(content: bytearray, row: int, end: int) -> None:
        second = row + 46 + len("frames/00.bin")
        content[second : second + 46 + 13] = content[row : row + 46 + 13]

    return changed(change)


LIES: dict[str, bytes] = {
    "no end record": packed()[:-22],
    "a cut end record": packed()[:-1],
    "a cut beginning": packed()[40:],
    "more entries than rows": put("<L", "end", 8, 21 << 16 | 21),
    "two numbers of entries": put("<H", "end", 10, 19),
    "fewer entries than rows": put("<L", "end", 8, 19 << 16 | 19),
    "two disks": put("<H", "end", 4, 1),
    "a directory that begins before the file": put("<L", "end", 16, 0xFFFFFFF0),
    "a directory that is too short": put("<L", "end", 12, 100),
    "a row with a huge name": put("<H", "row", 28, 0xFFFF),
    "a row with a huge comment": put("<H", "row", 32, 0xFFFF),
    "an entry outside the file": put("<L", "row", 42, 0x7FFFFFFF),
    "an entry in the directory": put("<L", "row", 20, 0x00FFFFFF),
    "a size that is missing": put("<L", "row", 24, 0xFFFFFFFF),
    "a smaller size": put("<L", "row", 24, 39),
    "a larger size": put("<L", "row", 24, 41),
    "another checksum": put("<L", "row", 16, 1),
    "a local header with another name": renamed(b"frames/00.bin", b"frames/00.bin"[::-1])[:60]
    + packed()[60:],
    "a name that is not UTF-8": renamed(b"frames/00.bin", b"frames/\xff\xfe.bin", utf8=True),
    "entries that overlap": overlapping(),
    "places that no file has": wide_entries(moved=(1 << 64) - 10_000),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_zip_that_contradicts_itself_is_damaged(lie: str) -> None:
    assert LIES[lie] != packed()
    with pytest.raises(BROKEN):
        contents(LIES[lie])


def directory_of(count: int, comment: int, *, hidden: bool = False) -> bytes:
    """A zip of `count` rows; with `hidden` only its ZIP64 record says so."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    row = struct.pack("<4s6H3L5H2L", b"PK\1\2", *(0,) * 9, 1, *(0,) * 6) + b"a"
    wide = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, count * 47, 31)
    wide += struct.pack("<4sIQI", b"PK\6\7", 0, 31 + count * 47, 1)
    told = (20, 20, 20 * 47) if hidden else (min(count, 65_535),) * 2 + (count * 47,)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *told, 31, comment) + b"c" * comment
    return local + row * count + (wide if hidden else b"") + end


@pytest.mark.parametrize("comment", [0, 1, 65_515, 65_516, 65_534, 65_535])
def test_no_comment_hides_a_larger_directory(comment: int) -> None:
    """F2: behind a comment of 65,516 bytes or more the ZIP64 record was not seen by our check."""
    for count in (20, 20_000):
        with pytest.raises(VideoUnreadable, match="ZIP64"):
            read_directory(io.BytesIO(directory_of(count, comment, hidden=True)))
    with pytest.raises(VideoUnreadable) as caught:
        read_directory(io.BytesIO(directory_of(MAX_ENTRIES + 1, comment)))
    assert caught.value.facts == {"entries": MAX_ENTRIES + 1, "max_entries": MAX_ENTRIES}


def test_the_given_zip_of_20000_entries_is_refused(test_media: Path) -> None:
    with open(test_media / "hostile2" / "zip64_20k.zip", "rb") as file:
        with pytest.raises(VideoUnreadable, match="ZIP64"):
            read_directory(file)


def test_an_entry_never_unpacks_to_more_than_its_size() -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = bomb.compress(bytes(100 << 20)) + bomb.flush()
    made = packed()
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        first = archive.infolist()[0]
    at = 30 + len(first.filename)
    assert len(stream) > first.compress_size
    content = bytearray(made[:at] + stream + made[at + first.compress_size :])
    grown = len(stream) - first.compress_size
    end = content.rindex(b"PK\5\6")
    struct.pack_into(
        "<L", content, end + 16, struct.unpack_from("<L", content, end + 16)[0] + grown
    )
    row = content.index(b"PK\1\2")
    struct.pack_into("<L", content, row + 20, len(stream))
    for _ in range(19):
        row = content.index(b"PK\1\2", row + 4)
        moved = struct.unpack_from("<L", content, row + 42)[0] + grown
        struct.pack_into("<L", content, row + 42, moved)
    file = io.BytesIO(content)
    entry = read_directory(file)[0]
    with pytest.raises(DamagedZip):
        read_entry(file, entry)
    assert read_entry(file, entry, 16) == bytes(16)
