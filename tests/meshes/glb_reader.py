"""A small, strict GLB reader for tests, independent of the writer."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class ReadGlb:
    """The parsed file. Arrays come as they are stored."""

    def __init__(self, content: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        text_length, kind = struct.unpack_from("<I4s", content, 12)
        assert kind == b"JSON" and text_length % 4 == 0
        self.tree: dict[str, Any] = json.loads(content[20 : 20 + text_length])
        binary_length, kind = struct.unpack_from("<I4s", content, 20 + text_length)
        assert kind == b"BIN\0" and 28 + text_length + binary_length == len(content)
        self._binary = content[28 + text_length :]

    def view(self, index: int) -> bytes:
        """The bytes of a buffer view."""
        view = self.tree["bufferViews"][index]
        return self._binary[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def array(self, index: int) -> NDArray[Any]:
        """An accessor as `(N,)` or `(N, width)`."""
        accessor = self.tree["accessors"][index]
        rows = np.frombuffer(self.view(accessor["bufferView"]), _DTYPES[accessor["componentType"]])
        width = _WIDTHS[accessor["type"]]
        rows = rows.reshape(-1, width) if width > 1 else rows
        assert len(rows) == accessor["count"]
        if "min" in accessor:
            assert np.array_equal(np.atleast_1d(rows.min(axis=0)), np.float32(accessor["min"]))
            assert np.array_equal(np.atleast_1d(rows.max(axis=0)), np.float32(accessor["max"]))
        return rows

    @property
    def primitive(self) -> dict[str, Any]:
        """The one primitive of the one mesh."""
        (mesh,) = self.tree["meshes"]
        (primitive,) = mesh["primitives"]
        return dict(primitive)

    def attribute(self, name: str) -> NDArray[Any]:
        """POSITION, NORMAL, TEXCOORD_0 or COLOR_0 of the base mesh."""
        return self.array(self.primitive["attributes"][name])

    @property
    def faces(self) -> NDArray[Any]:
        """Faces `(F, 3)`."""
        return self.array(self.primitive["indices"]).reshape(-1, 3)

    def morphed(self, name: str, k: int) -> NDArray[np.float32]:
        """POSITION or NORMAL with the weight of target k - 1 at 1, added up in float32."""
        base = self.attribute(name)
        return base if k == 0 else base + self.array(self.primitive["targets"][k - 1][name])


def signed_volume(vertices: NDArray[Any], faces: NDArray[Any]) -> float:
    """Volume of a closed mesh: positive if its faces point outwards."""
    a, b, c = (vertices[corner].astype(np.float64) for corner in faces.T)
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)
