"""Attacks by files: zips, pictures, videos and GLBs, one function each. Few need TEST_MEDIA."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.faults.attacks.attack import CLOSED, REFUSED, Target, attack, upload
from tests.hostile_media import hostile_files
from tests.video.clips import numbered

# --- zips


@attack(*REFUSED)
def zips_of_two_million_entries(target: Target) -> Iterator[int]:
    """The ZIP64 record behind a comment of several lengths: 103 MB of directory each."""
    for comment in (0, 65_515, 65_535):
        packed = many_entries(target.folder / "many.zip", 2_000_000, comment)
        yield upload(target, packed, "a.zip")


@attack(*REFUSED, short=True)
def zips_of_many_entries(target: Target) -> Iterator[int]:
    """As many as fit without ZIP64; long names, comments and extra fields; sizes that overlap."""
    yield upload(target, many_entries(target.folder / "a.zip", 20_000, 65_535), "a.zip")
    yield upload(target, many_entries(target.folder / "a.zip", 65_534, 0), "a.zip")
    yield upload(target, many_entries(target.folder / "a.zip", 400, 0, b"n" * 65_000), "a.zip")
    picture = png(64, 64)
    overlapping = bytearray(zipped([picture] * 16))
    first = overlapping.index(b"PK\1\2")
    at = first
    while (at := overlapping.find(b"PK\1\2", at + 4)) > 0:
        overlapping[at + 42 : at + 46] = overlapping[first + 42 : first + 46]
    yield upload(target, bytes(overlapping), "a.zip")


@attack(*REFUSED, short=True)
def zips_that_expand(target: Target) -> Iterator[int]:
    """Frames of 100 MB of zeros, frames that are zips, and sizes that lie."""
    zeros = b"\x89PNG\r\n\x1a\n" + bytes(100_000_000)
    yield upload(target, zipped([zeros] * 2 + [png(64, 64)] * 16), "a.zip")
    yield upload(target, zipped([zipped([png(8, 8)])] * 16), "a.zip")
    packed = zipped([png(64, 64)] * 16)
    size = struct.pack("<I", len(png(64, 64)))
    yield upload(target, packed.replace(size, b"\xf0\xff\xff\xff"), "a.zip")


@attack(*REFUSED, 503)
def hostile_zips_at_once(target: Target) -> Iterator[int]:
    """Sixteen uploads at the same time, each with 65,534 entries or frames that expand."""
    entries = many_entries(target.folder / "a.zip", 65_534, 0).read_bytes()
    expands = zipped([b"\x89PNG\r\n\x1a\n" + bytes(100_000_000)] * 2 + [png(64, 64)] * 16)
    with ThreadPoolExecutor(16) as threads:
        yield from threads.map(lambda file: upload(target, file, "a.zip"), [entries, expands] * 8)


@attack(*REFUSED, short=True)
def an_upload_of_the_largest_size(target: Target) -> Iterator[int]:
    """100 MB that begin like a video, and one byte more."""
    start = b"\0\0\0\x20ftypisom" + bytes(20)
    yield upload(target, start.ljust(100 << 20, b"\0"))
    yield upload(target, start.ljust((100 << 20) + 1, b"\0"))


def many_entries(path: Path, entries: int, comment: int, name: bytes = b"a") -> Path:
    """A zip whose directory has so many entries. Beyond 65,535 only its ZIP64 record says so, and
    the last record, with a comment of this length, says 20.
    """
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name),
                        0, 0, 0, 0, 0, 0) + name  # fmt: skip
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name
    size = len(entry) * entries
    with open(path, "wb") as file:
        file.write(local)
        for _ in range(entries // 1000):
            file.write(entry * 1000)
        file.write(entry * (entries % 1000))
        end = file.tell()
        if entries > 65_535 or comment:
            said, said_size = 20, 20 * len(entry)
            file.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries,
                                   size, len(local)))  # fmt: skip
            file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        else:
            said, said_size = entries, size
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, said, said, said_size, len(local),
                               comment) + b"c" * comment)  # fmt: skip
    return path


def zipped(contents: list[bytes], suffix: str = "png") -> bytes:
    """A deflated zip of these files."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, content in enumerate(contents):
            archive.writestr(f"{k:03d}.{suffix}", content)
    return packed.getvalue()


# --- pictures


@attack(*REFUSED, short=True)
def pictures_with_huge_sides(target: Target) -> Iterator[int]:
    """Headers of a hundred bytes that announce gigabytes, in three formats."""
    jpeg = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\1\x03\x11\1\xff\xd9"
    vp8x = struct.pack("<4sI4s4sI", b"RIFF", 30, b"WEBP", b"VP8X", 10) + b"\0" * 4 + b"\xff" * 6
    for suffix, picture in (("png", png(60_000, 60_000, b"\0")), ("jpg", jpeg), ("webp", vp8x),
                            ("png", png(0x7FFFFFFF, 0x7FFFFFFF, b"\0"))):  # fmt: skip
        yield upload(target, zipped([picture] * 16, suffix), "a.zip")


@attack(*REFUSED, short=True)
def pictures_that_expand(target: Target) -> Iterator[int]:
    """Sixteen frames of 16 megapixels of one colour; colour profiles and texts of 200 MB."""
    profile = b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 9)
    text = b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9)
    for extra in (profile, text):
        yield upload(target, zipped([png(64, 64, None, extra)] * 15), "a.zip")
    yield upload(target, zipped([png(5000, 5000)] * 16), "a.zip")


@attack(*REFUSED, short=True)
def pictures_of_many_frames(target: Target) -> Iterator[int]:
    """APNG frames by the thousand, JPEG segments by the thousand, WebP chunks without end."""
    frames = b"acTL", struct.pack(">II", 100_000, 0)
    controls = [(b"fcTL", bytes(26))] * 20_000
    yield upload(target, zipped([png(64, 64, None, frames, *controls)] * 15), "a.zip")
    segments = b"\xff\xd8" + b"\xff\xe1\0\x02" * 500_000 + b"\xff\xd9"
    yield upload(target, zipped([segments] * 16, "jpg"), "a.zip")
    chunks = b"EXIF\0\0\0\0" * 500_000
    webp = struct.pack("<4sI4s", b"RIFF", 4 + len(chunks), b"WEBP") + chunks
    yield upload(target, zipped([webp] * 16, "webp"), "a.zip")


@attack(202, short=True, needs_media=True)
def pictures_of_phones(target: Target) -> Iterator[int]:
    """JPEGs with a thumbnail in EXIF and a second picture behind the first: right, not hostile."""
    assert target.media
    yield upload(target, target.media / "hostile2" / "exif_thumb_mpf.zip", "a.zip")


def png(width: int, height: int, pixels: bytes | None = None, *more: tuple[bytes, bytes]) -> bytes:
    """A picture of one colour; `pixels` instead of its rows, `more` chunks before them."""
    rows = bytes((1 + 3 * width) * height) if pixels is None else pixels
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", ihdr), *more, (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )  # fmt: skip


# --- videos


@attack(202, *REFUSED, needs_media=True)
def files_of_the_manifest(target: Target) -> Iterator[int]:
    """Each is accepted or refused as its manifest says; -2 if not."""
    assert target.media
    hostile = target.media / "hostile"
    for wanted in hostile_files(target.media):
        found = upload(target, hostile / wanted["file"], wanted["upload_name"])
        right = {"accept": (202,), "reject": wanted["status"]}.get(wanted["expect"], (found,))
        yield found if found in right else -2
        _delete_all(target)


@attack(202, 422, 2)
def wide_and_tall_clips(target: Target) -> Iterator[int]:
    """Refused with a reason, or finished (2); none crashes the pipeline."""
    sizes = ((640, 64), (64, 640), (320, 20), (20, 320), (1920, 80), (512, 34), (80, 16), (18, 18))
    for width, height in sizes:
        clip = numbered(target.folder / "wide.mp4", 20, size=(width, height))
        yield _outcome(target, clip.read_bytes(), "wide.mp4")
    if target.media:
        wide = target.media / "hostile2" / "wide_10to1.avi"
        yield _outcome(target, wide.read_bytes(), "wide.avi")


def _outcome(target: Target, clip: bytes, name: str) -> int:
    """The upload's status if it was refused; else 2 if the job finished or its clip was refused
    later, 5 if it failed otherwise.
    """
    http = target.server.http
    reply = http.post("/jobs", files={"file": (name, clip)}, timeout=120.0)
    if reply.status_code != 202:
        return reply.status_code
    job_id = reply.json()["job_id"]
    while True:
        job = http.get(f"/jobs/{job_id}", params={"wait": 55}, timeout=90.0).json()
        if job["status"] not in ("queued", "running"):
            final = job["status"] == "finished" or job.get("retryable") is False
            crashed = job.get("error_code") in ("worker_crashed", "input_crashes_pipeline")
            return 2 if final and not crashed else 5


def _delete_all(target: Target) -> None:
    for job in target.server.http.get("/jobs", params={"limit": 100}).json()["jobs"]:
        target.server.http.delete(f"/jobs/{job['job_id']}")


# --- GLBs


@attack(*REFUSED, CLOSED, short=True, pipeline="actionmesh")
def glbs_that_multiply(target: Target) -> Iterator[int]:
    """Nodes times primitives, counts without bytes, strides of one byte, deep JSON."""
    clip = numbered(target.folder / "clip.mp4", 16)
    deep = b"[" * 2_000_000
    for mesh in (
        glb(primitives=20_000, nodes=10_000), glb(primitives=10_000, nodes=1000),
        glb(count=2**31), glb(view={"byteStride": 1}, binary=bytes(40_000_000), count=39_999_980),
        glb(index_type=5126), glb(index_type=5122), packed_glb(deep, b""),
        packed_glb(b'{"asset":' * 100_000, b""), packed_glb(b" " * 40_000_000, b""),
    ):  # fmt: skip
        yield upload(target, clip, "a.mp4", mesh=mesh)


def glb(
    *, primitives: int = 1, nodes: int = 1, count: int = 3, index_type: int = 5123,
    view: dict[str, int] | None = None, binary: bytes = b"",
) -> bytes:  # fmt: skip
    """A GLB of one triangle, `primitives` times in each of `nodes`."""
    points = binary or struct.pack("<9f", 0, 0, 0, 1, 0, 0, 0, 1, 0)
    indices = struct.pack("<3f", -1, 2, 3) if index_type == 5126 else struct.pack("<3h", -1, 1, 2)
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "buffers": [{"byteLength": len(points) + len(indices)}],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(points), **(view or {})},
            {"buffer": 0, "byteOffset": len(points), "byteLength": len(indices)},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": count, "type": "VEC3"},
            {"bufferView": 1, "componentType": index_type, "count": 3, "type": "SCALAR"},
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}] * primitives}],
        "nodes": [{"mesh": 0}] * nodes,
        "scenes": [{"nodes": list(range(nodes))}],
        "scene": 0,
    }
    return packed_glb(json.dumps(document).encode(), points + indices)


def packed_glb(document: bytes, binary: bytes) -> bytes:
    """The two chunks with their lengths."""
    document += b" " * (-len(document) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(document), 0x4E4F534A) + document
    if binary:
        chunks += struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
