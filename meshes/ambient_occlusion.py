"""Ambient occlusion of the mesh and its shadow on the floor, for the preview.

Both use the same ray directions at every timestep, without random numbers, so that nothing
flickers. raytracer.py and rasterizer.py find what the rays hit (Obstacles). Called by renderer.py.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from meshes.camera import Camera
from meshes.normals import weld
from meshes.sequence import MeshSequence

_DOME_RAYS = 20
_DOME_REACH = 0.7
"""The longest distance at which surfaces darken each other, in units of the subject's radius."""
_DOME_PLACES = 5_000
"""Rays start at this many positions at most; the others are interpolated from neighbours."""
_FLOOR_CELLS = 112


class Obstacles(Protocol):
    """The mesh at one timestep, as an obstacle for rays."""

    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: float
    ) -> NDArray[np.bool_]:
        """True for rays from `(N, 3)` along unit directions `(N, 3)` that hit it within `reach`."""

    def heights(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance straight up to the mesh, `(Z, X)`; infinite where nothing is above.

        `grid` `(Z, X, 3)` is regular and level: x grows along a row, z from row to row.
        """


class AmbientOcclusion:
    """How much of the surrounding dome each vertex sees, by rays in the same fixed directions."""

    def __init__(self, sequence: MeshSequence, radius: float) -> None:
        self._radius = radius
        places = weld(sequence.vertices[0])
        self._place_of_vertex = places
        count = int(places.max()) + 1
        vertex_of_place = np.zeros(count, np.intp)
        vertex_of_place[places] = np.arange(len(places))
        # multiples of the golden ratio: an even selection without a pattern
        chosen = np.arange(count) * 0.618034 % 1 < _DOME_PLACES / count
        self._asked = np.flatnonzero(chosen)
        self._vertices_asked = vertex_of_place[self._asked]
        self._near = _neighbours(places[sequence.faces], count)

    def openness(
        self, obstacles: Obstacles, vertices: NDArray[np.float32], normals: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Values `(V,)` in [0, 1]: 1 sees the whole half dome around its normal."""
        outward, directions = normals[self._vertices_asked], _sphere(_DOME_RAYS)
        weight = outward @ directions.T
        # rays start just above the surface, so that they do not hit their own triangle
        above = vertices[self._vertices_asked] + outward * np.float32(0.004 * self._radius)
        origin, direction = np.nonzero(weight > 0.1)
        starts, ways = above.take(origin, axis=0), directions.take(direction, axis=0)
        blocked = obstacles.blocked(starts, ways, _DOME_REACH * self._radius)
        sent = weight[origin, direction]
        light = np.zeros((self._near.shape[0], 2), np.float32)
        for column, part in enumerate((sent * ~blocked, sent)):
            light[self._asked, column] = np.bincount(origin, part, len(self._asked))
        # average over neighbours: fills positions without rays, and removes noise
        for _ in range(3):
            light = self._near @ light
        free, total = light.T
        share = np.where(total > 0, free / np.maximum(total, 1e-9), 1)
        return np.asarray(share[self._place_of_vertex], np.float32)


def _neighbours(faces: NDArray[np.intp], count: int) -> csr_matrix:
    """A matrix that averages each position with those that share an edge with it."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    itself = np.arange(count)
    rows = np.concatenate([ends[:, 0], ends[:, 1], itself, itself])
    columns = np.concatenate([ends[:, 1], ends[:, 0], itself, itself])
    near = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(count, count))
    return near.multiply(1 / near.sum(axis=1)).tocsr().astype(np.float32)


class Floor:
    """A plane below the lowest vertex of all timesteps that shows only a soft shadow."""

    def __init__(self, low: NDArray[np.float32], high: NDArray[np.float32], radius: float) -> None:
        self._radius = radius
        self._height = float(low[1]) - 1e-3 * radius
        self._corner = low[[0, 2]] - np.float32(0.7 * radius)
        span = high[[0, 2]] - low[[0, 2]] + np.float32(1.4 * radius)
        self._cell = float(span.max()) / _FLOOR_CELLS
        grid = (np.mgrid[:_FLOOR_CELLS, :_FLOOR_CELLS].astype(np.float32) + 0.5) * self._cell
        self._grid = np.full((_FLOOR_CELLS, _FLOOR_CELLS, 3), self._height, np.float32)
        self._grid[..., 0] = grid[1] + self._corner[0]
        self._grid[..., 2] = grid[0] + self._corner[1]

    def cells(self, camera: Camera, rays: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rays `(S, S, 3)` hit the floor, in cells; far outside for rays that do not."""
        down = rays[..., 1]
        fall = self._height - camera.eye[1]
        steps = np.where(down < -1e-6, fall / np.minimum(down, -1e-6), 1e6)
        places = camera.eye[[0, 2]] + rays[..., ::2] * steps[..., None]
        return np.asarray((places - self._corner) / self._cell - 0.5, np.float32).clip(-1e4, 1e4)

    def shadow(self, obstacles: Obstacles) -> NDArray[np.float32]:
        """Brightness of the floor, `(cells, cells)`: 1 without shadow.

        Surfaces just above a cell give a narrow, dark shadow, higher ones a wide, faint one.
        """
        height = obstacles.heights(self._grid) / np.float32(self._radius)
        bright = np.ones_like(height)
        for fade, blur, depth in ((0.07, 0.035, 0.38), (0.35, 0.10, 0.30), (1.2, 0.22, 0.22)):
            sigma = max(blur * self._radius / self._cell, 0.5)
            dark = cv2.GaussianBlur(np.exp(-height / fade), (0, 0), sigma)
            bright *= 1 - depth * dark
        return np.asarray(bright, np.float32)


def _sphere(count: int) -> NDArray[np.float32]:
    """Directions `(count, 3)` spread evenly over the sphere (Fibonacci lattice)."""
    k = np.arange(count) + 0.5
    y, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    ring = np.sqrt(1 - y * y)
    return np.stack([ring * np.cos(turn), y, ring * np.sin(turn)], -1).astype(np.float32)
