"""Mutates small videos and feeds them to all code that reads untrusted files.

`python -m tests.faults.mutated_files 10000 [seed]`. Sniffing, probing and decoding may only refuse
a file as a user fault, within 30 seconds, without a process or descriptor left. Files for which
this fails are kept in fuzz_findings/.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from errors import UserFault
from intake.inspect import inspect
from tests.faults.processes import descendants
from tests.video.clips import numbered, pictures
from video.frames import read_clip

SLOWEST_S = 30.0
FINDINGS = Path("fuzz_findings")
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
}
_NUMBERS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_WORDS = (b"moov", b"mdat", b"stts", b"stsz", b"stco", b"elst", b"cmov", b"free", b"idx1", b"JUNK",
          b"movi", b"dref", b"url ", b"PK\3\4", b"PK\1\2", b"\x1aE\xdf\xa3", b"\xff\xd8",
          b"\x89PNG", b"IDAT")  # fmt: skip


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
        made += [path for path in found if path.suffix in (".mp4", ".mov", ".avi", ".webm", ".zip")]
    return [path.read_bytes() for path in made if 0 < path.stat().st_size <= SEED_BYTES]


def mutated(chance: random.Random, files: list[bytes]) -> bytes:
    """One of the files with one to six mutations."""
    content = bytearray(chance.choice(files))
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        if chance.random() < 0.1:
            _graft(chance, content, chance.choice(files))
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
        clip, _ = read_clip(path, facts.container)
    except UserFault as refusal:
        return f"job: {refusal.code}"
    assert len(clip) == facts.used_frames, "inspect and read_clip disagree"
    return "read"


def _tried(path: Path) -> tuple[str, str, float]:
    """The fault found (or empty), the result of `try_file`, and the seconds it took."""
    began, wrong, how = time.monotonic(), "", "finding"
    try:
        how = try_file(path)
    except Exception as exc:  # noqa: BLE001 - any exception is a finding
        wrong = f"{type(exc).__name__}: {exc}"
    return wrong, how, time.monotonic() - began


def fuzz(count: int, seed: int, *, tell: Callable[[str], None]) -> int:
    """Try `count` files; the number of findings."""
    chance, ended, findings = random.Random(seed), Counter[str](), 0
    slowest_s = 0.0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        files = seeds(Path(folder))
        path = Path(folder) / "case"
        path.write_bytes(files[0])
        try_file(path)
        others = descendants(os.getpid())  # of the caller
        descriptors = len(os.listdir("/proc/self/fd"))
        for k in range(count):
            path.write_bytes(mutated(chance, files))
            wrong, how, took_s = _tried(path)
            if took_s > SLOWEST_S:  # the machine may have been busy: try again
                wrong, how, took_s = _tried(path)
            ended[how] += 1
            slowest_s = max(slowest_s, took_s)
            if took_s > SLOWEST_S:
                wrong = f"it took {took_s:.0f} s"
            elif descendants(os.getpid(), besides=others):
                wrong = "a process was left"
            elif len(os.listdir("/proc/self/fd")) > descriptors:
                wrong = "a descriptor was left"
            if wrong:
                findings += 1
                FINDINGS.mkdir(exist_ok=True)
                shutil.copy(path, FINDINGS / f"{seed}-{k}")
                tell(f"{seed}-{k}: {wrong}")
            if (k + 1) % 500 == 0:
                tell(f"{k + 1} files, {findings} findings, slowest {slowest_s:.1f} s")
    endings = ", ".join(f"{number} {how}" for how, number in ended.most_common())
    tell(f"{count} files of {len(files)} seeds, seed {seed}: {findings} findings; "
         f"slowest {slowest_s:.1f} s; {endings}")  # fmt: skip
    return findings


def main(arguments: list[str]) -> int:
    """Exit code: 0 without findings."""
    count = int(arguments[0]) if arguments else 10_000
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 30)
    return 1 if fuzz(count, seed, tell=lambda line: print(line, flush=True)) else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
