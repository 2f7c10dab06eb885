"""Lays a mesh's surface out flat for a texture, with xatlas, in a process of its own.

xatlas is native code that cannot be interrupted, takes seconds and may fail on an odd mesh: the
process can be killed, and its end is never the job's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshes.external_tools import Launch


@dataclass(frozen=True)
class Unwrapped:
    """Vertices with texture coordinates: those of the mesh, repeated where charts end.

    New vertex k is the mesh's vertex `vertex_map[k]`, int32 `(W,)`; `faces` int32 `(F, 3)` are of
    new vertices, in the mesh's order; `uv` float32 `(W, 2)` has (0, 0) at the upper left corner.
    """

    vertex_map: NDArray[np.int32]
    faces: NDArray[np.int32]
    uv: NDArray[np.float32]


def unwrap(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    size_px: int,
    launch: Launch,
    while_waiting: Callable[[], None],
) -> Unwrapped:
    """Texture coordinates of vertices `(V, 3)`.

    Raises ToolFailed, and what `while_waiting` raises, which ends the process.
    """
    raise NotImplementedError
