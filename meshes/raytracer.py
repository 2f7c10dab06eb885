"""The preview's default tracer: finds what rays hit with Intel Embree. No GL, no display, no GPU.

One Embree scene per timestep serves all cameras. renderer.py does the shading.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from meshes.camera import Camera
from meshes.renderer import FirstHits, Hits, MeshRenderer
from meshes.sequence import MeshSequence

# eight points in a pixel, no two in one row or column
_SUBPIXELS = (np.array([[1, 5], [3, 1], [5, 7], [7, 3], [2, 2], [6, 6], [0, 4], [4, 0]]) + 0.5) / 8


def make_raytracer(sequence: MeshSequence) -> MeshRenderer:
    """The renderer of these meshes. Raises ValueError for a texture that cannot be decoded."""
    # embreex reads one number at a time: from tuples in 3 ms, from an array of 40k faces in 12
    rows = np.empty(len(sequence.faces), object)
    rows[:] = list(map(tuple, sequence.faces.tolist()))
    return MeshRenderer(sequence, partial(_EmbreeMesh, rows), _SUBPIXELS)


class _EmbreeMesh:
    """renderer.TracedMesh of vertices `(V, 3)` and faces, F tuples of three."""

    def __init__(self, faces: NDArray[np.object_], vertices: NDArray[np.float32]) -> None:
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, vertices, faces)

    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: float
    ) -> NDArray[np.bool_]:
        reaches = np.full(len(origins), reach, np.float32)
        hit = self._scene.run(origins, directions, dists=reaches, query="OCCLUDED")
        return np.asarray(hit >= 0)

    def heights(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        origins = grid.reshape(-1, 3)
        up = np.broadcast_to(np.array([0, 1, 0], np.float32), origins.shape)
        hit = self._scene.run(origins, up, output=True)
        heights = np.where(hit["primID"] >= 0, hit["tfar"], np.float32(np.inf))
        return np.asarray(heights.reshape(grid.shape[:2]), np.float32)

    def seen_by(self, camera: Camera) -> FirstHits:
        def first_hits(points: NDArray[np.float32], rays: NDArray[np.float32]) -> Hits:
            del points
            origins = np.broadcast_to(camera.eye, rays.shape)
            hit = self._scene.run(origins, rays, output=True)
            cover = hit["primID"] >= 0
            seen = np.flatnonzero(cover)
            rows = (hit[name].take(seen, axis=0) for name in ("primID", "u", "v", "Ng"))
            return Hits(cover, *rows)

        return first_hits
