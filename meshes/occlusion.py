"""What keeps light away in the preview: nooks of the mesh, and the mesh above its floor.

Both are measured with rays that are the same at every timestep and then smoothed: nothing is
random, so nothing flickers. `scene` is an embreex scene; the raytracer builds and owns it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from meshes.camera import Camera
from meshes.normals import weld
from meshes.sequence import MeshSequence

_DOME_RAYS = 20
_DOME_REACH = 0.7
"""How far a surface darkens another, in units of the subject's radius."""
_DOME_PLACES = 5_000
"""Rays start at no more places than that; the others take what their neighbours found."""
_FLOOR_CELLS = 112


class Dome:
    """How much of the sky each vertex sees, by rays in directions that are the same for all."""

    def __init__(self, sequence: MeshSequence, radius: float) -> None:
        self._radius = radius
        places = weld(sequence.vertices[0])
        self._place_of_vertex = places
        count = int(places.max()) + 1
        vertex_of_place = np.zeros(count, np.intp)
        vertex_of_place[places] = np.arange(len(places))
        # multiples of the golden ratio: a share of any stretch of places, without a pattern
        chosen = np.arange(count) * 0.618034 % 1 < _DOME_PLACES / count
        self._asked = np.flatnonzero(chosen)
        self._vertices_asked = vertex_of_place[self._asked]
        self._near = _neighbours(places[sequence.faces], count)

    def openness(
        self, scene: Any, vertices: NDArray[np.float32], normals: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Values `(V,)` in [0, 1]: 1 sees the whole sky on its side."""
        outward, directions = normals[self._vertices_asked], _sphere(_DOME_RAYS)
        weight = outward @ directions.T
        # rays start just above the surface, or they would hit the triangle they start from
        above = vertices[self._vertices_asked] + outward * np.float32(0.004 * self._radius)
        origin, direction = np.nonzero(weight > 0.1)
        hit = scene.run(
            above.take(origin, axis=0),
            directions.take(direction, axis=0),
            dists=np.full(len(origin), _DOME_REACH * self._radius, np.float32),
            query="OCCLUDED",
        )
        sent = weight[origin, direction]
        light = np.zeros((self._near.shape[0], 2), np.float32)
        for column, part in enumerate((sent * (hit < 0), sent)):
            light[self._asked, column] = np.bincount(origin, part, len(self._asked))
        # neighbours share what they found: places without rays get some, and the grain goes
        for _ in range(3):
            light = self._near @ light
        free, total = light.T
        share = np.where(total > 0, free / np.maximum(total, 1e-9), 1)
        return np.asarray(share[self._place_of_vertex], np.float32)


def _neighbours(faces: NDArray[np.intp], count: int) -> csr_matrix:
    """A matrix that takes the mean of each place and those that share an edge with it."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    itself = np.arange(count)
    rows = np.concatenate([ends[:, 0], ends[:, 1], itself, itself])
    columns = np.concatenate([ends[:, 1], ends[:, 0], itself, itself])
    near = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, count))
    return near.multiply(1 / near.sum(axis=1)).tocsr().astype(np.float32)


class Floor:
    """A plane below the lowest vertex of all timesteps that shows nothing but a soft shadow."""

    def __init__(self, low: NDArray[np.float32], high: NDArray[np.float32], radius: float) -> None:
        self._radius = radius
        self._height = float(low[1]) - 1e-3 * radius
        self._corner = low[[0, 2]] - np.float32(0.7 * radius)
        span = high[[0, 2]] - low[[0, 2]] + np.float32(1.4 * radius)
        self._cell = float(span.max()) / _FLOOR_CELLS
        grid = (np.mgrid[:_FLOOR_CELLS, :_FLOOR_CELLS].astype(np.float32) + 0.5) * self._cell
        self._origins = np.full((_FLOOR_CELLS**2, 3), self._height, np.float32)
        self._origins[:, 0] = grid[1].ravel() + self._corner[0]
        self._origins[:, 2] = grid[0].ravel() + self._corner[1]

    def cells(self, camera: Camera, rays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rays `(S, S, 3)` meet the floor, in cells; far outside for those that do not."""
        down = rays[..., 1]
        steps = np.where(
            down < -1e-6, (self._height - camera.eye[1]) / np.minimum(down, -1e-6), 1e6
        )
        places = camera.eye[[0, 2]] + rays[..., ::2] * steps[..., None]
        return np.asarray((places - self._corner) / self._cell - 0.5, np.float32).clip(-1e4, 1e4)

    def shadow(self, scene: Any) -> NDArray[np.float32]:
        """How bright the floor is, `(cells, cells)`: 1 is free.

        Rays straight up tell how high above each cell the subject is. Near parts give a narrow and
        dark shadow, far ones a wide and faint one.
        """
        up = np.broadcast_to(np.array([0, 1, 0], np.float32), self._origins.shape)
        hit = scene.run(self._origins, up, output=True)
        height = np.where(hit["primID"] >= 0, hit["tfar"], np.inf) / self._radius
        height = height.reshape(_FLOOR_CELLS, _FLOOR_CELLS).astype(np.float32)
        bright = np.ones_like(height)
        for fade, blur, depth in ((0.07, 0.035, 0.38), (0.35, 0.10, 0.30), (1.2, 0.22, 0.22)):
            dark = cv2.GaussianBlur(
                np.exp(-height / fade), (0, 0), max(blur * self._radius / self._cell, 0.5)
            )
            bright *= 1 - depth * dark
        return np.asarray(bright, np.float32)


def _sphere(count: int) -> NDArray[np.float32]:
    """Directions `(count, 3)` spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    y, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(turn), y, ring * np.sin(turn)], -1).astype(np.float32)
