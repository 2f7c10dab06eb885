"""Reads an uploaded .glb: one mesh, its texture coordinates and the bytes of its picture.

Reads only what {video + 3D} needs. Not a library: the file is untrusted, and libraries decode the
texture, which must stay unchanged. Decodes no picture, follows no link, writes nothing.
Format: glTF 2.0, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import InvalidParameter
from meshes.sequence import MEDIA_TYPES, Texture

MAX_BYTES = 50_000_000
MAX_VERTICES = 200_000
MAX_FACES = 1_000_000
MAX_NODES = 10_000

_HINT = "Export one mesh as .glb, without Draco or meshopt compression, and send it again."
_TYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class Upload:
    """Vertices float64 (V, 3) in the file's units and axes (+Y up), faces int32 (F, 3).

    All nodes and primitives of the scene as one mesh, in the file's order. `texture` is set if all
    of them share one picture; `lost_textures` is True if there were several.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    texture: Texture | None
    lost_textures: bool


def read_glb(path: Path) -> Upload:
    """Raises InvalidParameter, with the reason, for any other file and for one too large."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise _refused(f"has {size / 1e6:.0f} MB, {MAX_BYTES / 1e6:.0f} are allowed")
    try:
        return _upload_of(_Document.of(path.read_bytes()))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, struct.error) as exc:
        raise _refused("is not a readable glTF 2.0 binary file") from exc
    except RecursionError:
        raise _refused("nests its nodes too deeply") from None


@dataclass(frozen=True)
class _Document:
    json: dict[str, Any]
    binary: bytes

    @classmethod
    def of(cls, content: bytes) -> _Document:
        magic, version, _, length, kind = struct.unpack_from("<4sIIII", content)
        if (magic, version, kind) != (b"glTF", 2, 0x4E4F534A):
            raise ValueError("not glTF 2")
        document = json.loads(content[20 : 20 + length])
        rest = content[20 + length :]
        binary = b""
        if len(rest) >= 8:
            length, kind = struct.unpack_from("<II", rest)
            if kind == 0x004E4942:
                binary = rest[8 : 8 + length]
        return cls(document, binary)

    def view(self, index: int) -> tuple[bytes, int]:
        """A buffer view's bytes and its stride (0 where packed)."""
        view = self.json["bufferViews"][index]
        if view.get("buffer", 0) != 0 or "uri" in self.json["buffers"][0]:
            raise _refused("keeps its data in another file")
        start = int(view.get("byteOffset", 0))
        found = self.binary[start : start + int(view["byteLength"])]
        if start < 0 or len(found) != view["byteLength"]:
            raise ValueError("a view runs past the end")
        return found, int(view.get("byteStride", 0))

    def array(self, index: int) -> NDArray[Any]:
        """An accessor as (count, width); normalised integers become float32."""
        accessor = self.json["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise _refused("uses sparse or compressed data")
        kind, width = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]]
        content, stride = self.view(accessor["bufferView"])
        count, start = int(accessor["count"]), int(accessor.get("byteOffset", 0))
        if count > 3 * MAX_BYTES or count < 0 or start < 0:
            raise ValueError("a count out of range")
        stride = stride or kind.itemsize * width
        if start + (count - 1) * stride + kind.itemsize * width > len(content):
            raise ValueError("an accessor runs past the end")
        found = np.ndarray((count, width), kind, content, start, (stride, kind.itemsize))
        if accessor.get("normalized") and kind.kind == "u":
            found = (found / np.iinfo(kind).max).astype(np.float32)
        return np.array(found)


def _upload_of(document: _Document) -> Upload:
    compressed = {"KHR_draco_mesh_compression", "EXT_meshopt_compression"}
    if required := compressed.intersection(document.json.get("extensionsRequired", ())):
        raise _refused(f"is compressed ({', '.join(sorted(required))})")
    vertices, faces, uvs, pictures = [], [], [], []
    total = triangles = 0
    for matrix, primitive in _primitives(document.json):
        places = document.array(primitive["attributes"]["POSITION"]).astype(np.float64)
        if total + len(places) > MAX_VERTICES:
            raise _refused(f"has more than {MAX_VERTICES} vertices")
        vertices.append(places @ matrix[:3, :3].T + matrix[:3, 3])
        faces.append(_faces_of(document, primitive, len(places), matrix) + total)
        triangles += len(faces[-1])
        if triangles > MAX_FACES:
            raise _refused(f"has more than {MAX_FACES} triangles")
        uv, picture = _texture_of(document, primitive)
        uvs.append(uv if uv is not None else np.zeros((len(places), 2), np.float32))
        pictures.append(picture)
        total += len(places)
    if triangles == 0:
        raise _refused("has no triangles")
    placed = np.concatenate(vertices)
    if not np.isfinite(placed).all() or np.ptp(placed, axis=0).max() <= 0:
        raise _refused("has no extent")
    shared = set(pictures)
    texture = None
    if len(shared) == 1 and (one := pictures[0]) is not None:
        texture = Texture(*_picture(document, one), np.concatenate(uvs).astype(np.float32))
    lost = texture is None and shared != {None}
    return Upload(placed, np.concatenate(faces).astype(np.int32), texture, lost)


def _primitives(document: dict[str, Any]) -> list[tuple[NDArray[np.float64], dict[str, Any]]]:
    """(world matrix, primitive) for every mesh that the default scene shows."""
    nodes = document.get("nodes", [])
    if len(nodes) > MAX_NODES:
        raise _refused(f"has {len(nodes)} nodes, {MAX_NODES} are allowed")
    scenes = document.get("scenes") or [{"nodes": list(range(len(nodes)))}]
    found: list[tuple[NDArray[np.float64], dict[str, Any]]] = []
    seen: set[int] = set()

    def visit(index: int, parent: NDArray[np.float64]) -> None:
        if index in seen:
            raise ValueError("a node has two parents")
        seen.add(index)
        node = nodes[index]
        matrix = parent @ _matrix_of(node)
        if "mesh" in node:
            for primitive in document["meshes"][node["mesh"]]["primitives"]:
                if primitive.get("mode", 4) == 4:
                    found.append((matrix, primitive))
        for child in node.get("children", ()):
            visit(child, matrix)

    for root in scenes[document.get("scene", 0)].get("nodes", ()):
        visit(root, np.eye(4))
    return found


def _matrix_of(node: dict[str, Any]) -> NDArray[np.float64]:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4, order="F")  # stored by columns
    x, y, z, w = (float(value) for value in node.get("rotation", (0, 0, 0, 1)))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _faces_of(
    document: _Document, primitive: dict[str, Any], vertices: int, matrix: NDArray[np.float64]
) -> NDArray[np.int64]:
    if "indices" in primitive:
        flat = document.array(primitive["indices"]).ravel().astype(np.int64)
    else:
        flat = np.arange(vertices)
    faces = flat[: len(flat) // 3 * 3].reshape(-1, 3)
    if len(faces) and faces.max() >= vertices:
        raise ValueError("a face points past the last vertex")
    # a mirroring transform reverses every face
    return faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else faces


def _texture_of(
    document: _Document, primitive: dict[str, Any]
) -> tuple[NDArray[Any] | None, int | None]:
    """Texture coordinates and the number of the picture of the base colour; None where missing."""
    material = document.json["materials"][primitive["material"]] if "material" in primitive else {}
    colour = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
    if colour is None:
        return None, None
    name = f"TEXCOORD_{colour.get('texCoord', 0)}"
    source = document.json["textures"][colour["index"]].get("source")
    if source is None or name not in primitive["attributes"]:
        return None, None
    return document.array(primitive["attributes"][name]), int(source)


def _picture(document: _Document, index: int) -> tuple[bytes, str]:
    """The unchanged bytes of a PNG or JPEG."""
    image = document.json["images"][index]
    if "bufferView" in image:
        content = document.view(image["bufferView"])[0]
    else:
        head, _, body = str(image["uri"]).partition(";base64,")
        if not head.startswith("data:"):
            raise _refused("keeps its texture in another file")
        try:
            content = base64.b64decode(body, validate=True)
        except ValueError:
            raise _refused("has a broken texture") from None
    for media_type, magic in MEDIA_TYPES.items():
        if content.startswith(magic):
            return content, media_type
    raise _refused("has a texture that is neither PNG nor JPEG")


def _refused(why: str) -> InvalidParameter:
    return InvalidParameter(f"The mesh {why}.", hint=_HINT, field="mesh")
