"""GLB files for tests: a textured tetrahedron, the same with one value changed, and bombs."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from tests.video.test_frames_zip import png

PICTURE = png(4, 4, pixels=bytes(20))

POINTS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.uint16)
UV = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], np.float32)


def glb(
    change: dict[str, Any] | None = None,
    nodes: list[dict[str, Any]] | None = None,
    binary: bytes = b"",
) -> bytes:
    """A textured tetrahedron; `change` replaces members of the document, `binary` its data."""
    parts = [POINTS.tobytes(), FACES.tobytes(), UV.tobytes(), PICTURE]
    views, offset = [], 0
    for part in parts:
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(part)})
        offset += len(part) + -len(part) % 4
    binary = binary or b"".join(part + bytes(-len(part) % 4) for part in parts)
    binary += bytes(-len(binary) % 4)
    primitive = {"attributes": {"POSITION": 0, "TEXCOORD_0": 2}, "indices": 1, "material": 0}
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes or [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
            {"bufferView": 2, "componentType": 5126, "count": 4, "type": "VEC2"},
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
        **(change or {}),
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(binary)
    return (
        struct.pack("<4sII", b"glTF", 2, size)
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


def changed(path: str, value: Any, *more: tuple[str, Any], source: bytes | None = None) -> bytes:
    """The tetrahedron with one value changed: `accessors.0.count`, for example."""
    content = source or glb()
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    for where, new in ((path, value), *more):
        *parents, last = [int(key) if key.isdigit() else key for key in where.split(".")]
        target = document
        for key in parents:
            target = target[key]
        target[last] = new
    return packed(json.dumps(document).encode(), content[20 + length :])


def packed(text: bytes, binary_chunk: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    size = 20 + len(text) + len(binary_chunk)
    head = struct.pack("<4sII", b"glTF", 2, size) + struct.pack("<I4s", len(text), b"JSON")
    return head + text + binary_chunk


def bomb(nodes: int, primitives: int) -> bytes:
    """Every node shows every primitive of one mesh."""
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    return changed(
        "nodes",
        [{"mesh": 0}] * nodes,
        ("scenes.0.nodes", list(range(nodes))),
        ("meshes.0.primitives", [primitive] * primitives),
    )


def stride_of_one(size: int) -> bytes:
    """As many overlapping positions as bytes."""
    content = changed(
        "bufferViews",
        [{"buffer": 0, "byteLength": size, "byteStride": 1}],
        ("buffers.0.byteLength", size),
        ("accessors.0.count", size - 20),
        ("meshes.0.primitives", [{"attributes": {"POSITION": 0}}]),
    )
    (length,) = struct.unpack_from("<I", content, 12)
    chunk = struct.pack("<I4s", size, b"BIN\0") + bytes(size)
    return packed(content[20 : 20 + length], chunk)
