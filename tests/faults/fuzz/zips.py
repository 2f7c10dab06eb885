"""Corpus `zips`: zips of frames whose parts contradict each other, through intake and decoding.

Each file is built from its parts (local headers, data, directory, ZIP64 records, end records,
comments), so that one lie leaves the rest sound; some bytes are changed afterwards. A zip may only
be refused as a user fault, and what intake accepts must decode in the job.
"""

from __future__ import annotations

import io
import os
import random
import struct
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from errors import UnsupportedMediaType, UserFault
from intake.container import HEAD_BYTES, sniff
from intake.inspect import inspect
from tests.faults.fuzz.file_corpus import run_files
from tests.faults.fuzz.findings import Findings
from tests.faults.fuzz.videos import change_bytes
from tests.faults.processes import rss_mb
from tests.video.clips import pictures
from video.frames import read_clip
from video.probe import probe

MOST_GROWTH_MB = 60.0
_SIZE = (64, 32)
_NUMBERS = (0, 1, 2, 19, 22, 30, 46, 1000, 1001, 0x7FFF, 0xFFFE, 0xFFFF, 0x10000, 1 << 20,
            0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)  # fmt: skip
_NAMES = (b"", b"/", b"a/", b"../../x.png", b"/etc/passwd", b"..\\..\\x.png", b"C:\\x.png",
          b"\0.png", b"a\0b.png", b"\xff\xfe.png", b"CON", b"aux.png", b"LPT1.png", b".DS_Store",
          b"Thumbs.db",
          b"__MACOSX/._0.png", b"A.PNG", b"a.png", b"%s%n.png", b"\xe2\x80\xae.png", b"9" * 5000,
          b"x" * 65_535, b"/" * 300, "\u202egnp.exe".encode())  # fmt: skip
_LOCAL_FORMAT, _ROW_FORMAT, _END_FORMAT = "<4s5H3L2H", "<4s6H3L5H2L", "<4s4H2LH"


@dataclass
class Part:
    """One entry. `local` and `row` replace fields of its two headers, by their position."""

    name: bytes
    content: bytes
    method: int = 0
    flags: int = 0
    extra: bytes = b""
    local: dict[int, int] = field(default_factory=dict)
    row: dict[int, int] = field(default_factory=dict)


@dataclass
class Zip:
    """A whole file. `end` replaces fields of the end record, `wide` those of the ZIP64 records."""

    parts: list[Part]
    before: bytes = b""
    between: bytes = b""
    comment: bytes = b""
    after: bytes = b""
    end: dict[int, int] = field(default_factory=dict)
    wide: dict[int, int] | None = None

    def packed(self) -> bytes:
        content, rows, offsets = bytearray(self.before), b"", []
        for part in self.parts:
            data = _deflated(part.content) if part.method == 8 else part.content
            crc, sizes = zlib.crc32(part.content), (len(data), len(part.content))
            lengths = (len(part.name), len(part.extra))
            offsets.append(len(content) - len(self.before))
            local = (b"PK\3\4", 20, part.flags, part.method, 0, 0, crc, *sizes, *lengths)
            content += _struct(_LOCAL_FORMAT, local, part.local) + part.name + part.extra + data
            row = (b"PK\1\2", 20, 20, part.flags, part.method, 0, 0, crc, *sizes, *lengths,
                   0, 0, 0, 0, offsets[-1])  # fmt: skip
            rows += _struct(_ROW_FORMAT, row, part.row) + part.name + part.extra
        at, count = len(content) - len(self.before), len(self.parts)
        content += rows + self.between
        if self.wide is not None:
            place = len(content)
            wide = (b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(rows), at)
            content += _struct("<4sQHHIIQQQQ", wide, self.wide)
            content += _struct("<4sIQI", (b"PK\6\7", 0, place, 1), {})
        end = (b"PK\5\6", 0, 0, count, count, len(rows), at, len(self.comment))
        return bytes(content + _struct(_END_FORMAT, end, self.end) + self.comment + self.after)


def _struct(form: str, values: tuple[bytes | int, ...], changes: dict[int, int]) -> bytes:
    """Packed values; each number is cut to the width of its field."""
    now = [changes.get(k, value) for k, value in enumerate(values)]
    widths = {"H": 16, "L": 32, "I": 32, "Q": 64}
    letters = "".join(c * int(n or 1) for n, c in _letters(form))
    cut = [value if isinstance(value, bytes) else value % (1 << widths[letters[k - 1]])
           for k, value in enumerate(now)]  # fmt: skip
    return struct.pack(form, *cut)


def _letters(form: str) -> list[tuple[str, str]]:
    """("5", "H") for every group of numbers behind the signature."""
    found, digits = [], ""
    for char in form.removeprefix("<4s"):
        if char.isdigit():
            digits += char
        else:
            found.append((digits, char))
            digits = ""
    return found


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def run(count: int, seed: int, tell: Callable[[str], None]) -> Findings:
    """Try `count` zips."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        sets = frame_sets(Path(folder))
    sound = Zip([Part(b"%02d" % k, content) for k, content in enumerate(sets[0][:16])]).packed()
    findings = Findings("zips", seed, tell)
    return run_files(findings, count, lambda: made(chance, sets), try_zip, sound)


def frame_sets(folder: Path) -> list[list[bytes]]:
    """Small frames of each kind, and as phones and animation programs write them."""
    sets = [pictures(folder / suffix, 20, suffix, size=_SIZE) for suffix in ("png", "jpg", "webp")]
    png, jpg, webp = sets
    turned = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0" + bytes(4)
    app1 = b"\xff\xe1" + struct.pack(">H", 8 + len(turned)) + b"Exif\0\0" + turned
    sets.append([content[:2] + app1 + content[2:] + jpg[0] for content in jpg])
    sets.append([content + b"\0\0\0\x18ftypmp42" + bytes(100) for content in jpg])
    for form in ("webp", "png"):
        animated = []
        for one, two in zip(png, reversed(png), strict=True):
            packed = io.BytesIO()
            frames = [Image.open(io.BytesIO(content)) for content in (one, two)]
            frames[0].save(packed, form, save_all=True, append_images=frames[1:])
            animated.append(packed.getvalue())
        sets.append(animated)
    return [*sets, [kind[k % 20] for k, kind in enumerate([png, jpg, webp] * 7)]]


def made(chance: random.Random, sets: list[list[bytes]]) -> bytes:
    """A zip with up to four changes to its parts, and sometimes to its bytes."""
    frames = chance.choice(sets)
    method = chance.choice((0, 8))
    zipped = Zip([Part(b"%02d.png" % k, content, method) for k, content in enumerate(frames)])
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 4))):
        chance.choice(_CHANGES)(chance, zipped)
    content = zipped.packed()
    return change_bytes(chance, content, content) if chance.random() < 0.3 else content


def _number_of_entry(chance: random.Random, zipped: Zip) -> None:
    part = chance.choice(zipped.parts)
    value = chance.choice(_NUMBERS) + chance.choice((0, 0, -1, 1))
    if chance.random() < 0.5:
        part.row[chance.randrange(1, 17)] = value
    else:
        part.local[chance.randrange(1, 11)] = value


def _both_headers(chance: random.Random, zipped: Zip) -> None:
    """The same lie in both headers: flags, method, checksum, sizes."""
    part, value = chance.choice(zipped.parts), chance.choice(_NUMBERS)
    local = chance.choice((2, 3, 6, 7, 8))
    part.local[local], part.row[local + 1] = value, value


def _number_of_end(chance: random.Random, zipped: Zip) -> None:
    zipped.end[chance.randrange(1, 8)] = chance.choice(_NUMBERS) + chance.choice((0, -1, 1))


def _zip64(chance: random.Random, zipped: Zip) -> None:
    zipped.wide = {}
    if chance.random() < 0.7:
        zipped.wide[chance.randrange(1, 10)] = chance.choice(_NUMBERS)
    if chance.random() < 0.5:
        zipped.end.update({3: 0xFFFF, 4: 0xFFFF, 5: 0xFFFFFFFF, 6: 0xFFFFFFFF})


def _zip64_field(chance: random.Random, zipped: Zip) -> None:
    """Sizes and offset in the extra field, sound or not."""
    part = chance.choice(zipped.parts)
    data = _deflated(part.content) if part.method == 8 else part.content
    wide = [len(part.content), len(data), chance.choice(_NUMBERS)]
    if chance.random() < 0.5:
        wide[chance.randrange(3)] = chance.choice(_NUMBERS)
    length = chance.choice((8, 16, 24, 28, 0, 65_535))
    part.extra = struct.pack("<HH3Q", 1, length, *wide)[: 4 + chance.choice((length, 24))]
    part.row.update(dict.fromkeys(chance.sample((8, 9, 16), 2), 0xFFFFFFFF))


def _comment(chance: random.Random, zipped: Zip) -> None:
    zipped.comment = b"c" * chance.choice((1, 22, 1000, 65_513, 65_515, 65_516, 65_534, 65_535))
    if chance.random() < 0.5:
        record = struct.pack(_END_FORMAT, b"PK\5\6", 0, 0, *chance.choices(_NUMBERS[:10], k=2),
                             *chance.choices(_NUMBERS[:8], k=2), 0)  # fmt: skip
        zipped.comment = (zipped.comment + record)[-65_535:]


def _more_bytes(chance: random.Random, zipped: Zip) -> None:
    other = chance.choice(
        (b"PK\3\4", b"PK\5\6" + bytes(18), Zip(zipped.parts[:3]).packed(), bytes(99))
    )
    place = chance.choice(("before", "between", "after"))
    if place == "before":
        other = b"PK\3\4" + other
    setattr(zipped, place, other * chance.choice((1, 1, 3)))


def _overlap(chance: random.Random, zipped: Zip) -> None:
    """A row that points to the data of another entry, or the same entry twice."""
    one = chance.randrange(len(zipped.parts))
    if chance.random() < 0.5:
        zipped.parts[one].row[16] = chance.choice((0, 30, 100, 1000))
    else:
        zipped.parts.append(zipped.parts[one])


def _name(chance: random.Random, zipped: Zip) -> None:
    part = chance.choice(zipped.parts)
    part.name = chance.choice((*_NAMES, zipped.parts[0].name.upper()))
    part.flags |= chance.choice((0, 0x800))


def _odd_content(chance: random.Random, zipped: Zip) -> None:
    """A folder, a nested zip, a bomb, text, a cut or damaged picture."""
    part = chance.choice(zipped.parts)
    size = len(part.content)
    part.content = chance.choice((
        b"", b"text", part.content[: chance.randrange(size + 1)], Zip(zipped.parts[:2]).packed(),
        part.content + bytes(chance.choice((1 << 10, 3 << 20))), part.content * 2,
        change_bytes(chance, part.content, part.content),
        change_bytes(chance, part.content, chance.choice(zipped.parts).content),
    ))  # fmt: skip


def _entries(chance: random.Random, zipped: Zip) -> None:
    """Another number of entries, or another order."""
    small = [Part(b"%d" % k, b"") for k in range(chance.choice((500, 1000, 1001, 3000)))]
    zipped.parts = chance.choice((
        zipped.parts[: chance.randrange(1, len(zipped.parts) + 1)],
        chance.sample(zipped.parts, len(zipped.parts)),
        zipped.parts * 2, zipped.parts + small,
    ))  # fmt: skip


def _mode(chance: random.Random, zipped: Zip) -> None:
    """A link or a folder by its attributes; a data descriptor; encryption; another method."""
    part = chance.choice(zipped.parts)
    part.row[15] = chance.choice((0o120777 << 16, 0o040755 << 16 | 0x10, 0xFFFFFFFF))
    part.flags = chance.choice((0, 1, 8, 0x40, 0x800, 0x2000, 0xFFFF))
    part.method = chance.choice((part.method, 0, 8, 9, 12, 14, 93, 99))


_CHANGES: tuple[Callable[[random.Random, Zip], None], ...] = (
    _number_of_entry, _number_of_entry, _both_headers, _number_of_end, _zip64, _zip64_field,
    _comment, _more_bytes, _overlap, _name, _odd_content, _odd_content, _entries, _mode,
)  # fmt: skip


def try_zip(path: Path) -> str:
    """`read`, or the code of the refusal. Raises any other exception."""
    before = rss_mb(os.getpid())
    try:
        used = _used_frames(path)
    except UserFault as refusal:
        return refusal.code
    finally:
        assert rss_mb(os.getpid()) - before <= MOST_GROWTH_MB, "the process grew"
        assert os.listdir(path.parent) == [path.name], "a file was left"
    clip, _ = read_clip(path, "zip")
    assert len(clip) == used, "intake and the job disagree"
    return "read"


def _used_frames(path: Path) -> int:
    """What intake says: one file in ten through the sandbox, the others by the same functions."""
    content = path.read_bytes()
    if zlib.crc32(content) % 10 == 0:
        return inspect(path).used_frames
    if sniff(content[:HEAD_BYTES]) != "zip":
        raise UnsupportedMediaType("The file is no zip.")
    return len(probe(path, "zip").source.used)
