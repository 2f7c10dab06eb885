"""Reads an uploaded .glb: one mesh, its texture coordinates and the bytes of its picture.

Reads only what {video + 3D} needs. Not a library: the file is untrusted, and libraries decode the
texture, which must stay unchanged. Decodes no picture, follows no link, writes nothing. Nodes times
parts times vertices are counted before any array is made. Called by child_main.py at intake, and by
actionmesh_wrapper.py in the job.
Format: glTF 2.0, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import ServiceError, VideoUnreadable
from intake.glb import MAX_MESH_BYTES
from intake.glb_document import (
    INDICES,
    POSITION,
    TEXCOORD,
    Accessor,
    BrokenGlb,
    GlbDocument,
    matrix_of,
    refused,
    uv_matrix_of,
    whole,
)
from meshes.sequence import MEDIA_TYPES, Texture
from video.pictures import first_picture
from video.sizes import MAX_PIXELS

MAX_VERTICES = 200_000
MAX_FACES = 1_000_000
MAX_NODES = 10_000
MAX_PARTS = 10_000
"""Uses of primitives: every node that shows a mesh counts all of the mesh's primitives."""
MAX_TEXTURE_PIXELS = 4 * MAX_PIXELS

_LOST = -1
"""In place of a picture's number: it is of another format, or has no coordinates."""
_LARGEST = 1e30
"""Coordinates beyond it, or an extent below its inverse, do not survive float32."""
_THINNEST = 1e-6
"""Height over half the mesh's size of a triangle that has an area."""
_UNLIT = "KHR_materials_unlit"
_UNREADABLE = {
    "KHR_draco_mesh_compression",
    "EXT_meshopt_compression",
    "KHR_meshopt_compression",
    "EXT_mesh_gpu_instancing",
    "KHR_texture_basisu",
}


@dataclass(frozen=True)
class Upload:
    """Vertices float64 (V, 3) in the file's units and axes (+Y up), faces int32 (F, 3).

    All nodes and primitives of the scene as one mesh, in the file's order. `texture` is set if all
    of them share one picture; `lost_textures` is True if there were others. `has_baked_light`: the
    picture holds the light already (KHR_materials_unlit).
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int32]
    texture: Texture | None
    lost_textures: bool
    has_baked_light: bool = False


def read_glb(path: Path) -> Upload:
    """Raises InvalidParameter, with the reason, for any other file and for one too large."""
    size = path.stat().st_size
    if size > MAX_MESH_BYTES:
        raise refused(f"has {size / 1e6:.0f} MB, {MAX_MESH_BYTES / 1e6:.0f} are allowed")
    try:
        return _upload_of(GlbDocument.of(path.read_bytes()))
    except ServiceError:
        raise
    except BrokenGlb as exc:
        raise refused(f"is not a readable glTF 2.0 binary file: {exc}") from exc
    except RecursionError:
        raise refused("nests its description too deeply") from None
    except (
        LookupError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
        struct.error,
    ) as exc:
        raise refused("is not a readable glTF 2.0 binary file") from exc


@dataclass(frozen=True)
class _Part:
    """One primitive, its accessors checked. `indices` is None where the vertices' order counts.

    `uv_matrix` (2, 3) turns the file's coordinates into those of the picture.
    `is_unlit`: its material asks for no light.
    """

    positions: Accessor
    indices: Accessor | None
    uv: Accessor | None
    uv_matrix: NDArray[np.float64]
    picture: int | None
    is_unlit: bool

    @property
    def triangles(self) -> int:
        return (self.indices or self.positions).count // 3


def _upload_of(document: GlbDocument) -> Upload:
    required = document.json.get("extensionsRequired", [])
    if unreadable := _UNREADABLE.intersection(required):
        raise refused(f"is compressed or needs {', '.join(sorted(unreadable))}")
    nodes = list(_nodes_with_meshes(document))
    shown = _placed_parts(document, nodes)
    if not any(part.triangles for _, part in shown):
        raise refused("has no triangles")
    vertices, faces, uvs, total = [], [], [], 0
    for matrix, part in shown:
        places = document.array(part.positions).astype(np.float64)
        vertices.append(_moved(places, matrix))
        faces.append(_faces_of(document, part, matrix) + total)
        uvs.append(_uv_of(document, part))
        total += len(places)
    placed, triangles = np.concatenate(vertices), np.concatenate(faces)
    _check_shape(placed, triangles)
    pictures = {part.picture for _, part in shown}
    (shared, *others) = pictures
    texture = None
    if not others and shared not in (None, _LOST):
        uv = np.concatenate(uvs)
        if not np.isfinite(uv).all():
            raise refused("has texture coordinates that are not finite")
        texture = Texture(*_picture(document, shared), uv)
    return Upload(
        placed,
        triangles.astype(np.int32),
        texture,
        lost_textures=texture is None and pictures != {None},
        has_baked_light=texture is not None and all(part.is_unlit for _, part in shown),
    )


def _nodes_with_meshes(document: GlbDocument) -> Iterator[tuple[NDArray[np.float64], int]]:
    """(world matrix, mesh) for every node of the default scene that shows one, in order."""
    nodes = document.json.get("nodes", [])
    if not isinstance(nodes, list) or len(nodes) > MAX_NODES:
        raise refused(f"has {len(nodes)} nodes, {MAX_NODES} are allowed")
    roots = range(len(nodes))
    if document.json.get("scenes"):
        chosen = whole(document.json, "scene", 0, 1 << 32, 0)
        roots = document.item("scenes", chosen).get("nodes", [])
    world, seen = np.eye(4), set[int]()
    waiting = [(root, world) for root in reversed(roots)]
    while waiting:
        index, parent = waiting.pop()
        node = document.item("nodes", index)
        if index in seen:
            raise BrokenGlb("a node has two parents, or is its own")
        seen.add(index)
        matrix = parent @ matrix_of(node)
        if "mesh" in node:
            yield matrix, whole(node, "mesh", 0, 1 << 32)
        children = node.get("children", [])
        if len(children) + len(waiting) > MAX_NODES:
            raise BrokenGlb("more children than nodes")
        waiting += [(child, matrix) for child in reversed(children)]


def _placed_parts(
    document: GlbDocument, nodes: list[tuple[NDArray[np.float64], int]]
) -> list[tuple[NDArray[np.float64], _Part]]:
    """Every use of a primitive, after all of them were counted together."""
    meshes: dict[int, list[_Part]] = {}
    found: list[tuple[NDArray[np.float64], _Part]] = []
    vertices = triangles = 0
    for matrix, mesh in nodes:
        if mesh not in meshes:
            meshes[mesh] = _parts_of(document, mesh)
        for part in meshes[mesh]:
            vertices += part.positions.count
            triangles += part.triangles
            if len(found) == MAX_PARTS:
                raise refused(f"has more than {MAX_PARTS} parts")
            found.append((matrix, part))
            if vertices > MAX_VERTICES:
                raise refused(f"has more than {MAX_VERTICES} vertices")
            if triangles > MAX_FACES:
                raise refused(f"has more than {MAX_FACES} triangles")
    return found


def _parts_of(document: GlbDocument, mesh: int) -> list[_Part]:
    """The primitives of one mesh that are triangles."""
    primitives = document.item("meshes", mesh)["primitives"]
    if not isinstance(primitives, list) or len(primitives) > MAX_PARTS:
        raise refused(f"has more than {MAX_PARTS} parts")
    parts = []
    for primitive in primitives:
        if whole(primitive, "mode", 0, 7, 4) != 4:
            continue
        attributes = primitive["attributes"]
        positions = document.accessor(attributes["POSITION"], POSITION, MAX_VERTICES)
        indices = None
        if "indices" in primitive:
            indices = document.accessor(primitive["indices"], INDICES, 3 * MAX_FACES)
        material = _material_of(document, primitive)
        uv, uv_matrix, picture = _texture_of(document, primitive, material)
        if uv is not None and uv.count != positions.count:
            raise BrokenGlb("texture coordinates for another number of vertices")
        is_unlit = _UNLIT in material.get("extensions", {})
        parts.append(_Part(positions, indices, uv, uv_matrix, picture, is_unlit))
    return parts


def _moved(places: NDArray[np.float64], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore", invalid="ignore"):  # checked in _check_shape
        moved: NDArray[np.float64] = places @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _uv_of(document: GlbDocument, part: _Part) -> NDArray[np.float32]:
    """(V, 2), zeros where the part has none."""
    if part.uv is None:
        return np.zeros((part.positions.count, 2), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # checked in _upload_of
        moved = document.array(part.uv) @ part.uv_matrix[:, :2].T + part.uv_matrix[:, 2]
        return np.asarray(moved, np.float32)


def _faces_of(document: GlbDocument, part: _Part, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    vertices = part.positions.count
    if part.indices is not None:
        flat = document.array(part.indices).ravel().astype(np.int64)
    else:
        flat = np.arange(vertices)
    faces = flat[: len(flat) // 3 * 3].reshape(-1, 3)
    if len(faces) and not 0 <= faces.min() <= faces.max() < vertices:
        raise BrokenGlb("a face points past the last vertex")
    # a mirroring transform reverses every face
    return faces[:, ::-1] if np.linalg.det(matrix[:3, :3]) < 0 else faces


def _check_shape(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
    """Raise InvalidParameter unless the mesh has a size and at least one triangle with an area."""
    if not np.isfinite(vertices).all() or np.abs(vertices).max() > _LARGEST:
        raise refused("has coordinates that are not finite, or far too large")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    half = float((high - low).max()) / 2
    if half <= 1 / _LARGEST:
        raise refused("has no extent")
    one, two, three = ((vertices - (low + high) / 2) / half)[faces.T]
    edges = np.stack([two - one, three - two, one - three])
    longest = np.linalg.norm(edges, axis=2).max(axis=0)
    twice_area = np.linalg.norm(np.cross(edges[0], edges[2]), axis=1)
    if not (twice_area > _THINNEST * np.maximum(longest, _THINNEST)).any():
        raise refused("has no triangle with an area")


def _material_of(document: GlbDocument, primitive: dict[str, Any]) -> dict[str, Any]:
    return document.item("materials", primitive["material"]) if "material" in primitive else {}


def _texture_of(
    document: GlbDocument, primitive: dict[str, Any], material: dict[str, Any]
) -> tuple[Accessor | None, NDArray[np.float64], int | None]:
    """Texture coordinates, their matrix and the base colour's picture; None where missing."""
    colour = material.get("pbrMetallicRoughness", {}).get("baseColorTexture")
    if colour is None:
        return None, np.eye(2, 3), None
    matrix = uv_matrix_of(colour)
    transform = colour.get("extensions", {}).get("KHR_texture_transform", {})
    layer = whole(transform, "texCoord", 0, 100, whole(colour, "texCoord", 0, 100, 0))
    uv = primitive["attributes"].get(f"TEXCOORD_{layer}")
    texture = document.item("textures", colour["index"])
    if "source" not in texture or uv is None:
        return None, matrix, _LOST
    document.item("images", texture["source"])
    return document.accessor(uv, TEXCOORD, MAX_VERTICES), matrix, texture["source"]


def _picture(document: GlbDocument, index: int) -> tuple[bytes, str]:
    """The unchanged bytes of a PNG or JPEG."""
    content = document.image(index)
    for media_type, magic in MEDIA_TYPES.items():
        if content.startswith(magic):
            _check_picture(content)
            return content, media_type
    raise refused("has a texture that is neither PNG nor JPEG")


def _check_picture(content: bytes) -> None:
    try:
        found = first_picture(content)
    except (ValueError, VideoUnreadable):
        raise refused("has a broken texture") from None
    if found.width * found.height > MAX_TEXTURE_PIXELS:
        raise refused(
            f"has a texture of {found.width} x {found.height} pixels; at most "
            f"{MAX_TEXTURE_PIXELS} are decoded"
        )
