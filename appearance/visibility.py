"""Which points of a mesh a camera sees, and how squarely. Used by consistency.py."""

from __future__ import annotations

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from meshes.view import View

_GAP = 1e-3
"""Rays start this part of the mesh's largest side above their points, to miss their own faces."""


class Occluder:
    """One timestep of a mesh, which hides what lies behind it.

    `vertices` float32 `(V, 3)`, `faces` int32 `(F, 3)`.
    """

    def __init__(self, vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> None:
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, vertices, faces)
        self._gap = np.float32(max(float(np.ptp(vertices, axis=0).max()) * _GAP, 1e-9))

    def facing(
        self, points: NDArray[np.float32], normals: NDArray[np.float32], view: View, t: int = 0
    ) -> NDArray[np.float32]:
        """For points `(N, 3)` with unit normals `(N, 3)`: the cosine, 0 to 1, `(N,)`, between the
        normal and the direction to timestep `t`'s camera; 0 where the point is hidden.
        """
        rays = _towards(points, view, t)
        cosines = np.einsum("ij,ij->i", rays, normals)
        seen = np.flatnonzero(cosines > 0)
        origins = points[seen] + normals[seen] * self._gap
        hidden = self._scene.run(origins, rays[seen], query="OCCLUDED") >= 0
        facing = np.zeros(len(points), np.float32)
        facing[seen[~hidden]] = cosines[seen[~hidden]]
        return facing


def _towards(points: NDArray[np.float32], view: View, t: int) -> NDArray[np.float32]:
    """Unit directions `(N, 3)` from points to the camera."""
    if view.is_orthographic:
        return np.tile(view.axes[2].astype(np.float32), (len(points), 1))
    rays = view.eyes[t].astype(np.float32) - points
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), np.float32)
