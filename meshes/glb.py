"""Builds a glTF 2.0 binary file (GLB): a JSON tree and one binary chunk.

Handles buffers, views, accessors and the channels of animations; gltf.py and skinned_glb.py, which
call it, add meshes, bones and cameras.
Source: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html (sections 3.6, 4.4).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERTEX_TARGET = 34962
INDEX_TARGET = 34963

_COMPONENT_TYPES = {"u1": 5121, "u2": 5123, "u4": 5125, "f4": 5126}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Glb:
    """Builder of one file: add arrays and images, fill `tree`, call `to_bytes`.

    The indices that `add_*` returns are those of the tree's lists.
    """

    def __init__(self, extras: dict[str, Any]) -> None:
        asset = {"version": "2.0", "generator": "ActionMesh Worker", "extras": extras}
        self.tree: dict[str, Any] = {"asset": asset, "accessors": [], "bufferViews": []}
        self._chunks: list[bytes] = []
        self._length = 0
        self._times = -1

    def add_array(
        self,
        rows: NDArray[Any],
        target: int | None = None,
        *,
        bounds: bool = False,
        normalized: bool = False,
    ) -> int:
        """Add an accessor for `(N,)`, `(N, 2..4)` or `(N, 16)` of uint8, uint16, uint32 or float32.

        `bounds` writes min and max, which the format requires for positions and animation times.
        Raises ValueError if a float is not finite.
        """
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            raise ValueError("a GLB cannot hold values that are not finite")
        raw = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<")).tobytes()
        accessor: dict[str, Any] = {
            "bufferView": self._add_view(raw, target),
            "componentType": _COMPONENT_TYPES[rows.dtype.str[1:]],
            "count": len(rows),
            "type": _SHAPES[1 if rows.ndim == 1 else rows.shape[1]],
        }
        if normalized:
            accessor["normalized"] = True
        if bounds:
            accessor["min"] = np.atleast_1d(rows.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(rows.max(axis=0)).tolist()
        self.tree["accessors"].append(accessor)
        return len(self.tree["accessors"]) - 1

    def add_image(self, image: bytes, media_type: str) -> int:
        """Embed an encoded picture byte for byte."""
        images = self.tree.setdefault("images", [])
        images.append({"bufferView": self._add_view(image, None), "mimeType": media_type})
        return len(images) - 1

    def add_animation(self, timesteps: int, fps: float) -> None:
        """Add the animation `motion` without channels: timestep k is shown at k / fps seconds."""
        times = (np.arange(timesteps) / fps).astype(np.float32)
        self._times = self.add_array(times, bounds=True)
        self.tree["animations"] = [{"name": "motion", "channels": [], "samplers": []}]

    def add_channel(self, node: int, path: str, values: NDArray[Any]) -> None:
        """Move `path` of this node in `motion`: to `values[k]` at timestep k, linearly between."""
        (animation,) = self.tree["animations"]
        output = self.add_array(values)
        sampler = {"input": self._times, "output": output, "interpolation": "LINEAR"}
        target = {"node": node, "path": path}
        animation["channels"].append({"sampler": len(animation["samplers"]), "target": target})
        animation["samplers"].append(sampler)

    def to_bytes(self) -> bytes:
        """The whole file. Raises ValueError if the tree is not plain JSON."""
        return b"".join(self.parts())

    def parts(self) -> Iterator[bytes]:
        """The file in pieces, so that a large one is in memory once. Raises as `to_bytes`."""
        tree = {**self.tree, "buffers": [{"byteLength": self._length}]}
        try:
            text = json.dumps(tree, separators=(",", ":"), allow_nan=False).encode()
        except TypeError as exc:
            raise ValueError("the facts about a mesh must be plain JSON values") from exc
        text += b" " * (-len(text) % 4)
        length = 12 + 8 + len(text) + 8 + self._length
        yield struct.pack("<4sII", b"glTF", 2, length) + struct.pack("<I4s", len(text), b"JSON")
        yield text
        yield struct.pack("<I4s", self._length, b"BIN\0")
        yield from self._chunks

    def _add_view(self, raw: bytes, target: int | None) -> int:
        view: dict[str, Any] = {"buffer": 0, "byteOffset": self._length, "byteLength": len(raw)}
        if target:
            view["target"] = target
        padding = b"\0" * (-len(raw) % 4)
        self._chunks += [raw, padding]
        self._length += len(raw) + len(padding)
        self.tree["bufferViews"].append(view)
        return len(self.tree["bufferViews"]) - 1
