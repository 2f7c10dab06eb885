"""Checks that the output files of a job are complete and valid. Standard library only.

Used by the demos. Checks each file's headers, lengths and tables, and the hash from the server.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

GLB_JSON, GLB_BIN = 0x4E4F534A, 0x004E4942
BYTES_OF = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
PARTS_OF = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
EXPECTED = ("animated_mesh.glb", "meshes.zip", "preview.mp4", "source.mp4", "poster.webp")


class InvalidOutput(Exception):
    """An output is missing or wrong; the message names the file."""


def check_outputs(folder: Path, job: Mapping[str, Any]) -> int:
    """Check every file of a finished job in `folder`; how many there are. Raises InvalidOutput."""
    names = [str(file["name"]) for file in job["files"]]
    timesteps = int(job["mesh"]["timesteps"])
    frames = [f"mesh_{k:03d}.glb" for k in range(timesteps)]
    if missing := [name for name in (*frames, *EXPECTED) if name not in names]:
        raise InvalidOutput(f"not made: {', '.join(missing)}")
    for file in job["files"]:
        _check_bytes(folder / file["name"], int(file["bytes"]), str(file["sha256"]))

    counts = {name: vertex_count(read_glb(folder / name)) for name in frames}
    if set(counts.values()) != {int(job["mesh"]["vertices"])}:
        raise InvalidOutput(
            f"the meshes have different numbers of vertices: {sorted(counts.values())}"
        )
    _check_animated(folder / "animated_mesh.glb", timesteps)
    _check_zip(folder / "meshes.zip", frames)
    for name in names:
        if name.endswith(".mp4"):
            _check_mp4(folder / name)
    _check_webp(folder / "poster.webp")
    return len(names)


def read_glb(path: Path) -> dict[str, Any]:
    """The JSON of a binary glTF; raises InvalidOutput unless header, chunks and views match."""
    whole = path.read_bytes()
    try:
        magic, version, length = struct.unpack_from("<4sII", whole)
        chunks = dict(_glb_chunks(whole))
        gltf = json.loads(chunks[GLB_JSON])
    except (struct.error, KeyError, ValueError) as exc:
        raise InvalidOutput(f"{path.name} is not a binary glTF") from exc
    if (magic, version, length) != (b"glTF", 2, len(whole)):
        raise InvalidOutput(f"{path.name}: the header says {magic!r} {version} and {length} bytes")
    stored = len(chunks.get(GLB_BIN, b""))
    if not 0 <= stored - int(gltf["buffers"][0]["byteLength"]) <= 3:
        raise InvalidOutput(f"{path.name}: the buffer is not as long as it says")
    views = gltf["bufferViews"]
    if any(view.get("byteOffset", 0) + view["byteLength"] > stored for view in views):
        raise InvalidOutput(f"{path.name}: a view ends after the buffer")
    for accessor in gltf["accessors"]:
        size = BYTES_OF[accessor["componentType"]] * PARTS_OF[accessor["type"]]
        view = views[accessor["bufferView"]]
        end = accessor.get("byteOffset", 0) + size * accessor["count"]
        if end > view["byteLength"]:
            raise InvalidOutput(f"{path.name}: an accessor ends after its view")
    return dict(gltf)


def vertex_count(gltf: Mapping[str, Any]) -> int:
    """Vertices of the one mesh."""
    position = gltf["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    return int(gltf["accessors"][position]["count"])


def _glb_chunks(whole: bytes) -> Iterator[tuple[int, bytes]]:
    at = 12
    while at < len(whole):
        length, kind = struct.unpack_from("<II", whole, at)
        if at + 8 + length > len(whole):
            raise ValueError("a chunk is cut short")
        yield kind, whole[at + 8 : at + 8 + length]
        at += 8 + length


def _check_bytes(path: Path, size: int, digest: str) -> None:
    if not path.is_file() or path.stat().st_size != size or size == 0:
        raise InvalidOutput(f"{path.name} is not there, or not {size} bytes long")
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        raise InvalidOutput(f"{path.name} does not have the hash that the server reports")


def _check_animated(path: Path, timesteps: int) -> None:
    """A base mesh, one morph target for each further timestep, and one animation."""
    gltf = read_glb(path)
    targets = gltf["meshes"][0]["primitives"][0].get("targets", [])
    if len(targets) != timesteps - 1:
        raise InvalidOutput(f"{path.name} has {len(targets)} morph targets, not {timesteps - 1}")
    paths = [c["target"]["path"] for a in gltf.get("animations", []) for c in a["channels"]]
    if paths != ["weights"]:
        raise InvalidOutput(f"{path.name} does not move: its channels are {paths}")


def _check_zip(path: Path, frames: list[str]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken, members = archive.testzip(), archive.namelist()
            same = all(archive.read(name) == path.with_name(name).read_bytes() for name in members)
    except (zipfile.BadZipFile, OSError) as exc:
        raise InvalidOutput(f"{path.name} is not a zip of the meshes") from exc
    if broken or members != frames or not same:
        raise InvalidOutput(f"{path.name} does not hold exactly the {len(frames)} meshes")


def _check_mp4(path: Path) -> None:
    """The top-level boxes fill the file, and the index is one of them."""
    size, at, boxes = path.stat().st_size, 0, []
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(16).ljust(16, b"\0")
            length, kind = struct.unpack_from(">I4s", head)
            if length == 1:
                length = struct.unpack_from(">Q", head, 8)[0]
            boxes.append(kind)
            at += int(length) if length >= 8 else size - at
    if at != size or boxes[:1] != [b"ftyp"] or not {b"moov", b"mdat"} <= set(boxes):
        raise InvalidOutput(f"{path.name} is not a complete mp4")


def _check_webp(path: Path) -> None:
    head = path.read_bytes()[:12]
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        raise InvalidOutput(f"{path.name} is not a WebP")
    if struct.unpack("<I", head[4:8])[0] + 8 != path.stat().st_size:
        raise InvalidOutput(f"{path.name} is cut short")
