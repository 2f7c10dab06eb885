"""Whether each place of a mesh's surface keeps its colour over the frames that show it.

It does if the view is right. fit.py asks where outlines cannot tell front from back.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from appearance.visibility import Occluder
from meshes.normals import face_normals, sum_of_faces
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip

_MOST_FRAMES = 8
_MOST_POINTS = 6_000
_OPAQUE = 250


def color_deviation(
    meshes: MeshSequence,
    clip: Clip,
    timesteps: list[int],
    view: View,
    tick: Callable[[], None],
) -> float:
    """Mean deviation of a place's colours from their mean, 0 to 255; infinite if nothing is seen.

    `view` is that of the clip's frames. Looks at vertices, at most 6,000, in 8 of `timesteps`.
    """
    count = meshes.vertices.shape[1]
    chosen = np.random.default_rng(0).permutation(count)[:_MOST_POINTS]
    around = sum_of_faces(meshes.faces, count)
    step = -(-len(timesteps) // _MOST_FRAMES)
    colors, weights = [], []
    for t in timesteps[::step]:
        tick()
        vertices = meshes.vertices[t]
        normals = (around @ face_normals(vertices, meshes.faces))[chosen]
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        facing = Occluder(vertices, meshes.faces).facing(
            vertices[chosen], normals.astype(np.float32), view, t
        )
        tick()
        seen = _colors(clip.frames[t], view.project(vertices[chosen], t))
        colors.append(seen[:, :3])
        weights.append(facing**2 * (seen[:, 3] >= _OPAQUE))
    return _deviation(np.stack(colors), np.stack(weights))


def _deviation(colors: NDArray[np.float32], weights: NDArray[np.float32]) -> float:
    """Of colours `(K, N, 3)` with weights `(K, N)`; places that are seen once do not count."""
    total = weights.sum(axis=0)
    often = ((weights > 0).sum(axis=0) > 1) & (total > 1e-3)
    if not often.any():
        return float("inf")
    colors, weights, total = colors[:, often], weights[:, often], total[often]
    means = (colors * weights[..., None]).sum(axis=0) / total[:, None]
    return float((np.abs(colors - means).mean(axis=2) * weights).sum() / total.sum())


def _colors(frame: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Colour and alpha `(N, 4)` of a frame at points `(N, 2)`; 0 outside of it."""
    rows = -(-len(points) // 1024)
    places = np.full((rows * 1024, 2), -10, np.float32)
    places[: len(points)] = points - 0.5
    grid = places.reshape(rows, 1024, 2)
    read = cv2.remap(
        frame, grid, np.empty(0), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.asarray(read.reshape(-1, 4)[: len(points)], np.float32)
