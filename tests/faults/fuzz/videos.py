"""Corpus `videos`: mutated small videos and zips of frames, through sniffing, probing and decoding.

They may only be refused as a user fault, within 30 seconds, without a process or descriptor left.
"""

from __future__ import annotations

import os
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from errors import UserFault
from intake.inspect import inspect
from tests.faults.fuzz.file_corpus import run_files
from tests.faults.fuzz.findings import Findings
from tests.video.clips import numbered, pictures
from video.frames import read_clip

SEED_BYTES = 300_000
"""Larger clips of TEST_MEDIA are left out: a mutation in their middle is mostly a broken pixel."""
_SIZE = (64, 32)
_CLIPS: dict[str, tuple[str, ...]] = {
    "h264.mp4": (),
    "fragmented.mp4": ("-movflags", "frag_keyframe+empty_moov"),
    "faststart.mov": ("-c:v", "libx264", "-movflags", "faststart"),
    "mpeg4.mp4": ("-c:v", "mpeg4"),
    "prores.mov": ("-c:v", "prores_ks", "-profile:v", "4"),
    "png.mov": ("-c:v", "png"),
    "mjpeg.avi": ("-c:v", "mjpeg"),
    "mpeg4.avi": ("-c:v", "mpeg4"),
    "raw.avi": ("-c:v", "rawvideo"),
    "vp8.webm": ("-c:v", "libvpx"),
    "vp9.webm": ("-c:v", "libvpx-vp9"),
    "ffv1.mkv": ("-c:v", "ffv1"),
    "h264.mkv": (),
    "moving.gif": ("-c:v", "gif"),
    "moving.webp": ("-c:v", "libwebp_anim", "-lossless", "1"),
}
_SUFFIXES = (".mp4", ".mov", ".avi", ".webm", ".mkv", ".gif", ".webp", ".zip")
_NUMBERS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (b"moov", b"mdat", b"stts", b"stsz", b"stco", b"elst", b"cmov", b"free", b"idx1", b"JUNK",
          b"movi", b"dref", b"url ", b"PK\3\4", b"PK\1\2", b"\x1aE\xdf\xa3", b"\xff\xd8",
          b"\x89PNG", b"IDAT", b"ANMF", b"VP8X", b"ALPH")  # fmt: skip


def run(count: int, seed: int, tell: Callable[[str], None]) -> Findings:
    """Try `count` mutated files."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        files = seeds(Path(folder))
    findings = Findings("videos", seed, tell)
    return run_files(findings, count, lambda: mutated(chance, files), try_file, files[0])


def seeds(folder: Path) -> list[bytes]:
    """Complete files of every container and many codecs, small enough for mutations anywhere."""
    made = [numbered(folder / name, 17, *how, size=_SIZE) for name, how in _CLIPS.items()]
    for suffix in ("png", "jpg", "webp"):
        zipped = folder / f"{suffix}.zip"
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
            for k, picture in enumerate(pictures(folder / suffix, 16, suffix, size=_SIZE)):
                archive.writestr(f"{k:03d}.{suffix}", picture)
        made.append(zipped)
    if media := os.environ.get("TEST_MEDIA"):
        found = sorted(path for path in Path(media).rglob("*") if path.is_file())
        made += [path for path in found if path.suffix in _SUFFIXES]
    return [path.read_bytes() for path in made if 0 < path.stat().st_size <= SEED_BYTES]


def mutated(chance: random.Random, files: list[bytes]) -> bytes:
    """One of the files with one to six mutations."""
    return change_bytes(chance, chance.choice(files), chance.choice(files))


def change_bytes(chance: random.Random, whole: bytes, other: bytes) -> bytes:
    """`whole` with one to six mutations; some take bytes of `other`."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        if chance.random() < 0.1 and other:
            _graft(chance, content, other)
        else:
            chance.choice(_MUTATIONS)(chance, content)
    return bytes(content)


def _spot(chance: random.Random, content: bytearray) -> int:
    """Half of all changes go to the first and the last kilobyte, where the headers are."""
    size = max(1, len(content))
    where = chance.random()
    if where < 0.3:
        return chance.randrange(min(size, 1024))
    if where < 0.5:
        return size - 1 - chance.randrange(min(size, 1024))
    return chance.randrange(size)


def _flip(chance: random.Random, content: bytearray) -> None:
    at = _spot(chance, content)
    content[at : at + 1] = bytes([chance.randrange(256)])


def _number(chance: random.Random, content: bytearray) -> None:
    at, form = _spot(chance, content), chance.choice((">I", "<I", ">H", "<H", ">Q"))
    limit = 1 << 8 * struct.calcsize(form)
    number = struct.pack(form, chance.choice(_NUMBERS) % limit)
    content[at : at + len(number)] = number


def _word(chance: random.Random, content: bytearray) -> None:
    word = chance.choice(_WORDS)
    at = _spot(chance, content)
    content[at : at + len(word)] = word


def _cut(chance: random.Random, content: bytearray) -> None:
    del content[_spot(chance, content) :]


def _remove(chance: random.Random, content: bytearray) -> None:
    at = _spot(chance, content)
    del content[at : at + chance.randrange(1, 200)]


def _repeat(chance: random.Random, content: bytearray) -> None:
    at, length = _spot(chance, content), chance.randrange(1, 5000)
    content[at:at] = content[at : at + length] * chance.choice((1, 2, 50))


def _zero(chance: random.Random, content: bytearray) -> None:
    at, length = _spot(chance, content), chance.randrange(1, 2000)
    content[at : at + length] = bytes(min(length, max(0, len(content) - at)))


def _graft(chance: random.Random, content: bytearray, other: bytes) -> None:
    at, of = _spot(chance, content), chance.randrange(len(other))
    content[at:] = other[of : of + chance.randrange(1, 50_000)]


_MUTATIONS: tuple[Callable[[random.Random, bytearray], None], ...] = (
    _flip, _flip, _number, _number, _word, _cut, _remove, _repeat, _zero,
)  # fmt: skip


def try_file(path: Path) -> str:
    """`read`, or the code of the refusal. Raises any other exception."""
    try:
        facts = inspect(path)
    except UserFault as refusal:
        return refusal.code
    try:
        clip, warnings = read_clip(path, facts.container)
    except UserFault as refusal:
        return f"job: {refusal.code}"
    is_cut = any(warning.code == "scene_cut" for warning in warnings)
    assert len(clip) == facts.used_frames or is_cut, "inspect and read_clip disagree"
    return "read"
