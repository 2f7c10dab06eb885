"""The preview's renderer: rays by Intel Embree, everything else numpy. No GL, no display, no GPU.

One scene a timestep serves all cameras. Only edges get more than one ray a pixel. How light falls
is said in shading.py, what keeps it away in ambient_occlusion.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from meshes.camera import Camera
from meshes.preview_background import Picture
from meshes.preview_scene import Panel, PreviewScene
from meshes.sequence import MeshSequence
from meshes.shading import CLAY, facing_normals, lights_of, shade, to_srgb
from meshes.texture import decode_texture, sample_texture, srgb_to_linear

_LARGEST_TEXTURE_PX = 1024
_VISIBLE_JUMP = 24
"""Of 255: neighbours that differ by more get eight rays each."""
# eight points in a pixel, no two in one row or column
_SUBPIXELS = (np.array([[1, 5], [3, 1], [5, 7], [7, 3], [2, 2], [6, 6], [0, 4], [4, 0]]) + 0.5) / 8


@dataclass(frozen=True)
class _Timestep:
    """One timestep made ready for rays.

    `values` float32 `(V, 4 + C)` are what is blended between vertices: normal, openness, and the C
    numbers that tell the albedo.
    """

    scene: Any
    vertices: NDArray[np.float32]
    values: NDArray[np.float32]


class RayTracer:
    """Draws the timesteps of one sequence for the same cameras. Raises ValueError on a texture that
    cannot be decoded.
    """

    def __init__(self, sequence: MeshSequence, cameras: Sequence[Camera]) -> None:
        self._preview_scene = PreviewScene(sequence, cameras)
        self._faces = sequence.faces
        self._albedo = _Albedo(sequence)

    def render(self, vertices: NDArray[np.float32], normals: NDArray[np.float32]) -> list[Picture]:
        """One picture a camera of the mesh with these vertices and normals `(V, 3)`."""
        scene = EmbreeScene()
        TriangleMesh(scene, vertices, self._faces)
        obstacles = _Obstacles(scene)
        openness = self._preview_scene.occlusion.openness(obstacles, vertices, normals)
        values = np.column_stack([normals, openness, self._albedo.values])
        timestep = _Timestep(scene, vertices, values)
        shadow = self._preview_scene.floor.shadow(obstacles)
        return [self._draw(panel, timestep, shadow) for panel in self._preview_scene.panels]

    def _draw(self, panel: Panel, timestep: _Timestep, shadow: NDArray[np.float32]) -> Picture:
        """Backdrop and shadow, then the pixels that the mesh may touch, then smooth edges."""
        camera = panel.camera
        picture = panel.with_shadow(shadow)
        window = _window(camera, timestep.vertices)
        part = picture[window]
        rays = panel.rays[window]
        colors, cover = self._trace(camera, timestep, rays.reshape(-1, 3))
        colors, cover = colors.reshape(rays.shape), cover.reshape(rays.shape[:2])
        edges = _edges(np.where(cover[..., None], colors, part), cover)
        inner = cover & ~edges
        part[inner] = colors[inner]
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
        colors, cover = self._trace(camera, timestep, camera.directions(points))
        count = len(_SUBPIXELS)
        total = colors.reshape(-1, count, 3).sum(axis=1)
        missed = count - cover.reshape(-1, count).sum(axis=1, dtype=np.float32)
        part[y, x] = (total + part[y, x] * missed[:, None]) / count

    def _trace(
        self, camera: Camera, timestep: _Timestep, rays: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Colours sRGB 0..255 `(N, 3)`, black where nothing was hit, and what was hit `(N,)`."""
        origins = np.broadcast_to(camera.eye, rays.shape)
        hit = timestep.scene.run(origins, rays, output=True)
        cover = hit["primID"] >= 0
        seen = np.flatnonzero(cover)
        rays = rays.take(seen, axis=0)
        corners = self._faces.take(hit["primID"].take(seen), axis=0)
        values = _blend(timestep.values, corners, hit["u"].take(seen), hit["v"].take(seen))
        front = facing_normals(values[:, :3], hit["Ng"].take(seen, axis=0), rays)
        albedo, lights = self._albedo.at(values[:, 4:]), lights_of(camera.axes)
        linear = shade(albedo, front, rays, values[:, 3], lights)
        colors = np.zeros((len(cover), 3), np.float32)
        colors[seen] = to_srgb(linear)
        return colors, cover


class _Obstacles:
    """See occlusion.Obstacles: rays through an embreex scene."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene

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


def _blend(
    values: NDArray[np.float32],
    corners: NDArray[np.int32],
    u: NDArray[np.float32],
    v: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Values `(V, C)` at N points of triangles with corners `(N, 3)`: `(N, C)`.

    u and v `(N,)` are Embree's barycentric coordinates: the weights of the second and third corner.
    """
    a, b, c = (values.take(corner, axis=0) for corner in corners.T)
    b *= u[:, None]
    c *= v[:, None]
    a *= (1 - u - v)[:, None]
    return np.asarray(a + b + c)


class _Albedo:
    """The surface's own colour, linear: from a texture, from vertex colours, or clay.

    `values` float32 `(V, C)` are what has to be blended: uv, the colours themselves, or nothing.
    """

    def __init__(self, sequence: MeshSequence) -> None:
        self._picture: NDArray[np.uint8] | None = None
        self.values = np.zeros((sequence.vertices.shape[1], 0), np.float32)
        if sequence.texture:
            self._picture = decode_texture(sequence.texture, _LARGEST_TEXTURE_PX)
            self.values = sequence.texture.uv
        elif sequence.colors is not None:
            self.values = np.asarray(sequence.colors[:, :3] / 255, np.float32)

    def at(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Albedo `(N, 3)`, or `(3,)` for all, at points with these blended values `(N, C)`."""
        if self._picture is not None:
            return srgb_to_linear(sample_texture(self._picture, values))
        return values if values.shape[1] else np.array(CLAY, np.float32)


def _window(camera: Camera, vertices: NDArray[np.float32]) -> tuple[slice, slice]:
    """Rows and columns of the picture that the mesh can touch, with a pixel to spare."""
    seen = camera.project(vertices)
    low = np.clip(np.floor(seen.min(axis=0)) - 2, 0, camera.size_px - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 2, 1, camera.size_px).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _edges(colors: NDArray[np.float32], cover: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels `(h, w)` where one ray is not enough: outlines, and all that jumps in brightness."""
    green = np.ascontiguousarray(colors[..., 1])  # stands for brightness, at a third of the cost
    edges = np.zeros(cover.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        jumps = np.abs(green[here] - green[there]) > _VISIBLE_JUMP
        jumps |= cover[here] != cover[there]
        edges[here] |= jumps
        edges[there] |= jumps
    return edges
