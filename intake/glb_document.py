"""The parts of an uploaded .glb: its JSON, its images, and arrays of checked accessors.

Nothing in the file is believed: every number is checked for type and range before it is used, and
an array is never larger than the bytes that it is made of. Called by glb_reader.py.
Format: glTF 2.0, https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, sections 3.6 and 4.4.
"""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import InvalidParameter

MAX_JSON_VALUES = 2_000_000

_HINT = "Export one mesh as .glb, without Draco or meshopt compression, and send it again."
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SMALL = frozenset({5120, 5121, 5122, 5123})
_QUANTIZED = "KHR_mesh_quantization"
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942


class BrokenGlb(ValueError):
    """The file breaks a rule of glTF; the text says which, and holds nothing of the file."""


def refused(why: str) -> InvalidParameter:
    """The error for a mesh that is not taken: "The mesh <why>."."""
    return InvalidParameter(f"The mesh {why}.", hint=_HINT, field="mesh")


@dataclass(frozen=True)
class Use:
    """What an accessor may hold (table 3.7.2.1): its type and component types.

    Integers that stand for fractions are `normalized`. KHR_mesh_quantization, which gltfpack
    writes, allows all small integers, as they are and normalized, where `may_be_quantized`.
    """

    name: str
    type: str
    components: frozenset[int]
    normalized: frozenset[int] = frozenset()
    may_be_quantized: bool = False


POSITION = Use("positions", "VEC3", frozenset({5126}), may_be_quantized=True)
INDICES = Use("indices", "SCALAR", frozenset({5121, 5123, 5125}))
TEXCOORD = Use(
    "texture coordinates", "VEC2", frozenset({5126}), frozenset({5121, 5123}), may_be_quantized=True
)


def whole(record: dict[str, Any], key: str, low: int, high: int, default: int | None = None) -> int:
    """An integer of the document, low <= value < high. Raises BrokenGlb, KeyError."""
    value = record[key] if default is None else record.get(key, default)
    if type(value) is not int or not low <= value < high:
        raise BrokenGlb(f"{key} is not a number in its range")
    return value


@dataclass(frozen=True)
class Accessor:
    """An accessor after all checks: `count` elements lie in the binary chunk, from `at` on."""

    component: str
    is_normalized: bool
    width: int
    count: int
    at: int
    stride: int


@dataclass(frozen=True)
class GlbDocument:
    """The JSON, which is an object, and the bytes of the binary chunk."""

    json: dict[str, Any]
    binary: bytes

    @classmethod
    def of(cls, content: bytes) -> GlbDocument:
        """Raises InvalidParameter, or BrokenGlb, ValueError and struct.error."""
        magic, version, size, length, kind = struct.unpack_from("<4sIIII", content)
        if (magic, version, kind) != (b"glTF", 2, _JSON_CHUNK):
            raise BrokenGlb("not glTF 2")
        if size != len(content):
            raise BrokenGlb("its header tells another length")
        end = 20 + length
        if end > len(content):
            raise BrokenGlb("the JSON is cut off")
        document = _parsed(content[20:end].decode("utf-8"))
        binary = b""
        if end < len(content):
            length, kind = struct.unpack_from("<II", content, end)
            if end + 8 + length > len(content):
                raise BrokenGlb("a chunk is cut off")
            if kind == _BINARY_CHUNK:
                binary = content[end + 8 : end + 8 + length]
        return cls(document, binary)

    def item(self, kind: str, index: int) -> dict[str, Any]:
        """One object of a list at the top of the document. Raises BrokenGlb, KeyError."""
        items = self.json[kind]
        if type(index) is not int or not isinstance(items, list) or not 0 <= index < len(items):
            raise BrokenGlb(f"there is no such object in {kind}")
        if not isinstance(items[index], dict):
            raise BrokenGlb(f"{kind} holds something else than objects")
        found: dict[str, Any] = items[index]
        return found

    def view(self, index: int) -> tuple[int, int, int]:
        """Start, length and stride (0 where packed) of a buffer view, all in bytes."""
        view, buffer = self.item("bufferViews", index), self.item("buffers", 0)
        if whole(view, "buffer", 0, 1 << 32, 0) != 0 or "uri" in buffer:
            raise refused("keeps its data in another file")
        size = whole(buffer, "byteLength", 1, len(self.binary) + 1)
        start = whole(view, "byteOffset", 0, size, 0)
        length = whole(view, "byteLength", 1, size - start + 1)
        stride = whole(view, "byteStride", 4, 253) if "byteStride" in view else 0
        if stride % 4:
            raise BrokenGlb("a stride is not a multiple of four")
        return start, length, stride

    def image(self, index: int) -> bytes:
        """The bytes of an image, from the binary chunk or the JSON itself."""
        image = self.item("images", index)
        if "bufferView" in image:
            start, length, _ = self.view(image["bufferView"])
            return self.binary[start : start + length]
        head, _, body = str(image["uri"]).partition(";base64,")
        if not head.startswith("data:"):
            raise refused("keeps its texture in another file")
        try:
            return base64.b64decode(body, validate=True)
        except ValueError:
            raise refused("has a broken texture") from None

    def accessor(self, index: int, use: Use, most: int) -> Accessor:
        """Check an accessor for its use; at most `most` elements."""
        found = self.item("accessors", index)
        if "sparse" in found or "bufferView" not in found:
            raise refused("uses sparse or compressed data")
        component = whole(found, "componentType", 0, 1 << 16)
        is_normalized = found.get("normalized", False)
        wanted = use.normalized if is_normalized else use.components
        if use.may_be_quantized and _QUANTIZED in self.json.get("extensionsRequired", []):
            wanted |= _SMALL
        if found["type"] != use.type or type(is_normalized) is not bool or component not in wanted:
            raise refused(f"has {use.name} of a type that glTF does not allow there")
        kind, width = np.dtype(_TYPES[component]), _WIDTHS[use.type]
        view_at, length, stride = self.view(found["bufferView"])
        start = whole(found, "byteOffset", 0, length, 0)
        count = whole(found, "count", 1, 1 << 32)
        if count > most:
            raise refused(f"has more than {most} {use.name} in one part")
        size = kind.itemsize * width
        if stride and stride < size:
            raise BrokenGlb("a stride is smaller than its element")
        stride = stride or size
        if start + (count - 1) * stride + size > length:
            raise BrokenGlb("an accessor runs past the end")
        if (view_at + start) % kind.itemsize or start % kind.itemsize:
            raise BrokenGlb("an accessor is not aligned")
        return Accessor(kind.str, is_normalized, width, count, view_at + start, stride)

    def array(self, accessor: Accessor) -> NDArray[Any]:
        """A copy of the elements, (count, width); normalised integers become float32."""
        kind = np.dtype(accessor.component)
        shape, strides = (accessor.count, accessor.width), (accessor.stride, kind.itemsize)
        found = np.ndarray(shape, kind, self.binary, accessor.at, strides)
        copy: NDArray[Any] = np.array(found)
        if accessor.is_normalized:
            return np.maximum(copy / np.iinfo(kind).max, -1).astype(np.float32)
        return copy


def matrix_of(node: dict[str, Any]) -> NDArray[np.float64]:
    """(4, 4) of a node, from its matrix, or its translation, rotation and scale."""
    if "matrix" in node:
        values = _numbers(node, "matrix", (0.0,) * 16)
        return np.array(values).reshape(4, 4, order="F")  # stored by columns
    x, y, z, w = _numbers(node, "rotation", (0, 0, 0, 1))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.array(_numbers(node, "scale", (1, 1, 1)))
    matrix[:3, 3] = _numbers(node, "translation", (0, 0, 0))
    return matrix


def uv_matrix_of(texture: dict[str, Any]) -> NDArray[np.float64]:
    """(2, 3) of a material's texture, from KHR_texture_transform: times (u, v, 1) it is the uv."""
    transform = texture.get("extensions", {}).get("KHR_texture_transform", {})
    (turn,) = _numbers({"rotation": [transform.get("rotation", 0)]}, "rotation", (0,))
    scale = np.array(_numbers(transform, "scale", (1, 1)))
    cos, sin = math.cos(turn), math.sin(turn)
    turned = np.array([[cos, sin], [-sin, cos]])  # counter-clockwise as seen: v points down
    return np.column_stack([turned * scale, _numbers(transform, "offset", (0, 0))])


def _numbers(record: dict[str, Any], key: str, default: Sequence[float]) -> list[float]:
    """As many finite numbers as `default` has. Raises BrokenGlb, OverflowError."""
    values = record.get(key, default)
    if not isinstance(values, list | tuple) or len(values) != len(default):
        raise BrokenGlb(f"{key} has another length")
    if not all(type(value) in (int, float) and math.isfinite(value) for value in values):
        raise BrokenGlb(f"{key} is not finite")
    return [float(value) for value in values]


def _parsed(text: str) -> dict[str, Any]:
    """The JSON object. Counts its values before it makes them."""
    if sum(text.count(mark) for mark in ",:[{") > MAX_JSON_VALUES:
        raise refused(f"has a description of more than {MAX_JSON_VALUES} values")
    document = json.loads(text, parse_constant=_no_constant)
    if not isinstance(document, dict):
        raise BrokenGlb("the JSON is no object")
    return document


def _no_constant(name: str) -> float:
    raise BrokenGlb(f"{name} is not JSON")
