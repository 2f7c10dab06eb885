"""Texels: which points of a mesh's surface the pixels of its texture show. Knows no colours.

bake.py makes them once; observe.py, mirror.py and complete.py read and write values at them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.sparse import csr_array

from appearance import OnProgress
from appearance.unwrap import Unwrapped
from meshes.normals import face_normals

_RAYS = 1 << 17
"""How many texels are looked up at a time: a tenth of a second."""


@dataclass(frozen=True)
class Texels:
    """The N texels of a square texture that lie on the surface of a mesh with V vertices.

    `places` int32 `(N,)` are their pixels, row by row; `faces` int32 `(N,)` are those they lie on,
    `corners` int32 `(N, 3)` those faces' vertices and `weights` float32 `(N, 3)` their shares.
    `areas` float32 `(N,)` is the surface that each stands for.
    """

    size_px: int
    vertices: int
    places: NDArray[np.int32]
    faces: NDArray[np.int32]
    corners: NDArray[np.int32]
    weights: NDArray[np.float32]
    areas: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.places)

    def operator(
        self, part: slice | NDArray[np.intp] = slice(None), welded: NDArray[Any] | None = None
    ) -> csr_array:
        """`(n, V)`: gives the values at these texels from values at the vertices.

        With `welded` `(V,)`, numbers of the vertices from 0, the values belong to those: `(n, W)`.
        """
        weights, corners, count = self.weights[part], self.corners[part], self.vertices
        if welded is not None:
            corners, count = welded.astype(np.int32)[corners], int(welded.max()) + 1
        rows = np.arange(0, weights.size + 1, 3, dtype=np.int32)
        return csr_array((weights.ravel(), corners.ravel(), rows), (len(weights), count))

    def picture(self, colors: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The texture `(H, W, 3)` of colours `(N, 3)`, 0 to 1; the space between is filled.

        Every pixel between the charts gets the colour of the nearest one on a chart.
        """
        size = self.size_px
        is_outside = np.ones(size * size, np.uint8)
        is_outside[self.places] = 0
        _, labels = cv2.distanceTransformWithLabels(
            is_outside.reshape(size, size), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        row_of_label = np.zeros(labels.max() + 1, np.int32)
        row_of_label[labels.ravel()[self.places]] = np.arange(len(self), dtype=np.int32)
        rounded = np.rint(np.clip(colors, 0, 1) * 255).astype(np.uint8)
        return np.asarray(rounded[row_of_label[labels]])


def find_texels(
    vertices: NDArray[np.float32], unwrapped: Unwrapped, size_px: int, report: OnProgress
) -> Texels:
    """The texels of a mesh with vertices `(V, 3)`; a texel belongs to the face at its middle."""
    scene = EmbreeScene()
    flat = np.zeros((len(unwrapped.uv), 3), np.float32)
    flat[:, :2] = unwrapped.uv * np.float32(size_px)
    TriangleMesh(scene, flat, unwrapped.faces)
    places, faces, weights = [], [], []
    for start in range(0, size_px * size_px, _RAYS):
        report(start / (size_px * size_px))
        pixels = np.arange(start, min(start + _RAYS, size_px * size_px), dtype=np.int32)
        origins = np.ones((len(pixels), 3), np.float32)
        origins[:, 0], origins[:, 1] = pixels % size_px + 0.5, pixels // size_px + 0.5
        down = np.broadcast_to(np.array([0, 0, -1], np.float32), origins.shape)
        hit = scene.run(origins, down, output=True)
        on = np.flatnonzero(hit["primID"] >= 0)
        u, v = hit["u"][on], hit["v"][on]
        places.append(pixels[on])
        faces.append(hit["primID"][on].astype(np.int32))
        weights.append(np.stack([1 - u - v, u, v], axis=1).astype(np.float32))
    face = np.concatenate(faces)
    triangles = unwrapped.vertex_map[unwrapped.faces]
    areas = np.linalg.norm(face_normals(vertices, triangles), axis=1) / 2
    shared = np.bincount(face, minlength=len(triangles))
    return Texels(
        size_px,
        len(vertices),
        np.concatenate(places),
        face,
        triangles[face],
        np.concatenate(weights),
        (areas / np.maximum(shared, 1)).astype(np.float32)[face],
    )
