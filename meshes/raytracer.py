"""The preview's renderer: rays by Intel Embree, everything else numpy. No GL, no display, no GPU.

One scene a timestep serves all cameras. Light that reaches nooks and the shadow on the floor are
measured with fixed rays and then smoothed: nothing is random, so nothing flickers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from meshes.backdrop import Picture, backdrop
from meshes.camera import Camera
from meshes.normals import weld
from meshes.sequence import MeshSequence
from meshes.shading import CLAY, facing_normals, shade, to_srgb
from meshes.texture import decode_texture, sample, srgb_to_linear

_DOME_RAYS = 32
_DOME_REACH = 0.8
"""How far a surface darkens another, in units of the subject's radius."""
_FLOOR_CELLS = 112
_LARGEST_TEXTURE_PX = 1024
# eight points in a pixel, no two in one row or column
_SUBPIXELS = (np.array([[1, 5], [3, 1], [5, 7], [7, 3], [2, 2], [6, 6], [0, 4], [4, 0]]) + 0.5) / 8


@dataclass(frozen=True)
class _Panel:
    """What of a picture does not change with time.

    `rays` float32 `(S, S, 3)` go through the pixels' middles; `floor_cells` `(S, S, 2)` are the
    places on the floor's grid that they meet.
    """

    camera: Camera
    rays: NDArray[np.float32]
    floor_cells: NDArray[np.float32]


@dataclass(frozen=True)
class _Timestep:
    """One timestep made ready for rays: vertices and normals `(V, 3)`, openness `(V,)`."""

    scene: Any
    vertices: NDArray[np.float32]
    normals: NDArray[np.float32]
    openness: NDArray[np.float32]


class RayTracer:
    """Draws the timesteps of one sequence for the same cameras. Raises ValueError on a texture that
    cannot be decoded.
    """

    def __init__(self, sequence: MeshSequence, cameras: Sequence[Camera]) -> None:
        low, high = (f(axis=(0, 1)) for f in (sequence.vertices.min, sequence.vertices.max))
        self._radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
        self._faces = sequence.faces
        self._floor = _Floor(low, high, self._radius)
        self._albedo = _Albedo(sequence)
        self._dome = _Dome(sequence, self._radius)
        self._panels = [self._panel(camera) for camera in cameras]

    def render(self, vertices: NDArray[np.float32], normals: NDArray[np.float32]) -> list[Picture]:
        """One picture a camera of the mesh with these vertices and normals `(V, 3)`."""
        scene = EmbreeScene()
        TriangleMesh(scene, vertices, self._faces)
        openness = self._dome.openness(scene, vertices, normals)
        timestep = _Timestep(scene, vertices, normals, openness)
        shadow = self._floor.shadow(scene)
        return [self._draw(panel, timestep, shadow) for panel in self._panels]

    def _panel(self, camera: Camera) -> _Panel:
        size = camera.size_px
        y, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
        rays = camera.directions(np.stack([x, y], -1).reshape(-1, 2)).reshape(size, size, 3)
        return _Panel(camera, rays, self._floor.cells(camera, rays))

    def _draw(self, panel: _Panel, timestep: _Timestep, shadow: NDArray[np.float32]) -> Picture:
        """Backdrop and shadow, then the pixels that the mesh may touch, then smooth edges."""
        camera = panel.camera
        picture = backdrop(camera.size_px)
        picture *= cv2.remap(
            shadow, panel.floor_cells, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )[..., None]
        window = _window(camera, timestep.vertices)
        part = picture[window]
        rays = panel.rays[window]
        colors, cover, depth, seen_normals = self._trace(camera, timestep, rays.reshape(-1, 3))
        shape = rays.shape[:2]
        edges = _edges(depth.reshape(shape), seen_normals.reshape(*shape, 3), 0.04 * self._radius)
        cover = cover.reshape(edges.shape)
        inner = cover & ~edges
        part[inner] = colors.reshape(*edges.shape, 3)[inner]
        self._smooth(camera, timestep, part, edges, window)
        return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)

    def _smooth(
        self,
        camera: Camera,
        timestep: _Timestep,
        part: NDArray[np.float32],
        edges: NDArray[np.bool_],
        window: tuple[slice, slice],
    ) -> None:
        """Replace the edge pixels by the mean of eight samples over what lies behind them."""
        y, x = np.nonzero(edges)
        corner = np.stack([x + window[1].start, y + window[0].start], -1)
        points = (corner[:, None] + _SUBPIXELS).reshape(-1, 2).astype(np.float32)
        colors, cover, _, _ = self._trace(camera, timestep, camera.directions(points))
        count = len(_SUBPIXELS)
        total = (colors * cover[:, None]).reshape(-1, count, 3).sum(axis=1)
        missed = count - cover.reshape(-1, count).sum(axis=1, dtype=np.float32)
        part[y, x] = (total + part[y, x] * missed[:, None]) / count

    def _trace(
        self, camera: Camera, timestep: _Timestep, rays: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
        """Colours sRGB 0..255 `(N, 3)`, whether something was hit `(N,)`, and depth and normals."""
        origins = np.broadcast_to(camera.eye, rays.shape)
        hit = timestep.scene.run(origins, rays, output=True)
        cover = hit["primID"] >= 0
        u, v = hit["u"][cover], hit["v"][cover]
        corners = self._faces[hit["primID"][cover]]
        weights = np.stack([1 - u - v, u, v], axis=1)
        blend = _Blend(corners, weights)
        normals = facing_normals(blend(timestep.normals), hit["Ng"][cover], rays[cover])
        linear = shade(
            self._albedo.at(blend), normals, rays[cover], blend(timestep.openness), camera.axes
        )
        colors = np.zeros((len(rays), 3), np.float32)
        colors[cover] = to_srgb(linear)
        depth = np.where(cover, hit["tfar"], np.float32(0)).astype(np.float32)
        seen_normals = np.zeros((len(rays), 3), np.float32)
        seen_normals[cover] = normals
        return colors, cover, depth, seen_normals


class _Blend:
    """Barycentric interpolation at N points: corners int32 `(N, 3)`, weights float32 `(N, 3)`."""

    def __init__(self, corners: NDArray[np.int32], weights: NDArray[np.float32]) -> None:
        self._corners, self._weights = corners.T.copy(), weights.T.copy()

    def __call__(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Values `(V,)` or `(V, C)` at the points: `(N,)` or `(N, C)`."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        a, b, c = self._corners
        p, q, r = (weight.reshape(shape) for weight in self._weights)
        return np.asarray(values[a] * p + values[b] * q + values[c] * r)


class _Albedo:
    """The surface's own colour, linear: from a texture, from vertex colours, or clay."""

    def __init__(self, sequence: MeshSequence) -> None:
        self._picture: NDArray[np.uint8] | None = None
        self._values = np.tile(np.array(CLAY, np.float32), (sequence.vertices.shape[1], 1))
        if sequence.texture:
            self._picture = decode_texture(sequence.texture, _LARGEST_TEXTURE_PX)
            self._values = sequence.texture.uv
        elif sequence.colors is not None:
            self._values = np.asarray(sequence.colors[:, :3] / 255, np.float32)

    def at(self, blend: _Blend) -> NDArray[np.float32]:
        """Albedo `(N, 3)` at the blend's points."""
        values = blend(self._values)
        if self._picture is None:
            return values
        return srgb_to_linear(sample(self._picture, values))


class _Dome:
    """How much of the sky each vertex sees, by rays in directions that are the same for all."""

    def __init__(self, sequence: MeshSequence, radius: float) -> None:
        self._radius = radius
        places = weld(sequence.vertices[0])
        self._place_of_vertex = places
        self._vertex_of_place = np.zeros(places.max() + 1, np.intp)
        self._vertex_of_place[places] = np.arange(len(places))
        # each place with itself and its neighbours: one step of smoothing takes the grain away
        welded = places[sequence.faces]
        pairs = np.concatenate([welded[:, [0, 1]], welded[:, [1, 2]], welded[:, [2, 0]]])
        itself = np.arange(len(self._vertex_of_place))
        rows = np.concatenate([pairs[:, 0], pairs[:, 1], itself, itself])
        columns = np.concatenate([pairs[:, 1], pairs[:, 0], itself, itself])
        near = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)))
        self._near = near.multiply(1 / near.sum(axis=1)).tocsr().astype(np.float32)

    def openness(
        self, scene: Any, vertices: NDArray[np.float32], normals: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Values `(V,)` in [0, 1]: 1 sees the whole sky on its side."""
        positions, outward = vertices[self._vertex_of_place], normals[self._vertex_of_place]
        directions = _sphere(_DOME_RAYS)
        weight = outward @ directions.T
        place, direction = np.nonzero(weight > 0.02)
        # rays start just above the surface, or they would hit the triangle they start from
        origins = positions[place] + outward[place] * np.float32(0.004 * self._radius)
        reach = np.full(len(place), _DOME_REACH * self._radius, np.float32)
        hit = scene.run(origins, directions[direction], dists=reach, query="OCCLUDED")
        flat = weight[place, direction]
        total = np.bincount(place, flat, len(positions))
        seen = np.bincount(place, flat * (hit < 0), len(positions))
        share = (seen / np.maximum(total, 1e-9)).astype(np.float32)
        for _ in range(2):
            share = self._near @ share
        return np.asarray(share[self._place_of_vertex])


class _Floor:
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


def _window(camera: Camera, vertices: NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns of the picture that the mesh can touch, with a pixel to spare."""
    seen = camera.project(vertices)
    low = np.clip(np.floor(seen.min(axis=0)) - 2, 0, camera.size_px - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 2, 1, camera.size_px).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _edges(
    depth: NDArray[np.float32], normals: NDArray[np.float32], step: float
) -> NDArray[np.bool_]:
    """Pixels `(h, w)` on an outline, a jump in depth of more than `step`, or a crease.

    Depth is 0 where nothing was hit.
    """
    edges = np.zeros(depth.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        jump = np.abs(depth[here] - depth[there]) > step
        crease = np.einsum("ijk,ijk->ij", normals[here], normals[there]) < 0.85
        crease &= (depth[here] > 0) & (depth[there] > 0)
        edges[here] |= jump | crease
        edges[there] |= jump | crease
    return edges
