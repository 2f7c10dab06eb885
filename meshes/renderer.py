"""Draws the preview's pictures of a mesh: shading, shadows and smooth outlines, all in numpy.

Where rays hit the mesh is found by one of two tracers: raytracer.py (Embree, on any CPU) or
rasterizer.py (PyTorch3D, on a CUDA GPU). preview.py calls it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.ambient_occlusion import AmbientOcclusion, Floor, Obstacles
from meshes.camera import Camera
from meshes.preview_background import Picture, background
from meshes.sequence import MeshSequence
from meshes.shading import CLAY, facing_normals, lights_of, shade, to_srgb
from meshes.texture import decode_texture, sample_texture, srgb_to_linear

_LARGEST_TEXTURE_PX = 1024
_BAKED_LIGHT = np.float32(0.3)
"""Share of our light on colours that hold the video's: with all of it they are 14 of 255 darker."""
_VISIBLE_JUMP = 24
"""Of 255: neighbours that differ by more are drawn with more samples."""


@dataclass(frozen=True)
class Hits:
    """The first hit of each ray.

    `cover` bool `(N,)` is True for rays that hit the mesh. For these M rays: `faces` `(M,)`, the
    barycentric weights `u` and `v` of the second and third corner `(M,)`, and the faces' normals
    `(M, 3)`, not normalised.
    """

    cover: NDArray[np.bool_]
    faces: NDArray[np.integer]
    u: NDArray[np.float32]
    v: NDArray[np.float32]
    normals: NDArray[np.float32]


FirstHits = Callable[[NDArray[np.float32], NDArray[np.float32]], Hits]
"""The hits of rays `(N, 3)` of one camera, through its picture's points `(N, 2)` in px."""


class TracedMesh(Obstacles, Protocol):
    """The mesh at one timestep."""

    def seen_by(self, camera: Camera) -> FirstHits:
        """The function that finds the hits of this camera's rays."""


@dataclass(frozen=True)
class _Panel:
    """One camera's picture without the subject, the same as long as the camera stays.

    `empty` float32 `(S, S, 3)` is the background, sRGB 0..255; `rays` `(S, S, 3)` go through the
    pixel `centres` `(S, S, 2)`; `floor_cells` `(S, S, 2)` are where they hit the floor's grid.
    """

    camera: Camera
    empty: NDArray[np.float32]
    centres: NDArray[np.float32]
    rays: NDArray[np.float32]
    floor_cells: NDArray[np.float32]


@dataclass(frozen=True)
class _View:
    """One timestep in one camera.

    `values` float32 `(V, 4 + C)` are interpolated between vertices: normal, openness, and the C
    numbers that give the albedo.
    """

    camera: Camera
    first_hits: FirstHits
    vertices: NDArray[np.float32]
    values: NDArray[np.float32]


class MeshRenderer:
    """Draws the timesteps of one sequence.

    `subpixels` `(S, 2)` in [0, 1) are the sample positions in a pixel of an outline; other pixels
    get one sample. Raises ValueError for a texture that cannot be decoded.
    """

    def __init__(
        self,
        sequence: MeshSequence,
        trace: Callable[[NDArray[np.float32]], TracedMesh],
        subpixels: NDArray[np.floating],
    ) -> None:
        low, high = (f(axis=(0, 1)) for f in (sequence.vertices.min, sequence.vertices.max))
        radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
        self._floor = Floor(low, high, radius)
        self._occlusion = AmbientOcclusion(sequence, radius)
        self._panels: list[_Panel] = []
        self._faces = sequence.faces
        self._albedo = _Albedo(sequence)
        self._light = _BAKED_LIGHT if sequence.has_baked_light else np.float32(1)
        self._trace = trace
        self._subpixels = subpixels

    def render(
        self,
        vertices: NDArray[np.float32],
        normals: NDArray[np.float32],
        cameras: Sequence[Camera],
    ) -> list[Picture]:
        """One picture per camera of the mesh with these vertices and normals `(V, 3)`."""
        mesh = self._trace(vertices)
        openness = self._occlusion.openness(mesh, vertices, normals)
        values = np.column_stack([normals, openness, self._albedo.values])
        shadow = self._floor.shadow(mesh)
        # a camera of the last call is prepared
        known = {id(panel.camera): panel for panel in self._panels}
        self._panels = [known.get(id(one)) or _panel(one, self._floor) for one in cameras]
        pictures = []
        for panel in self._panels:
            view = _View(panel.camera, mesh.seen_by(panel.camera), vertices, values)
            pictures.append(self._draw(panel, view, shadow))
        return pictures

    def _draw(self, panel: _Panel, view: _View, shadow: NDArray[np.float32]) -> Picture:
        """Background and shadow, then the pixels that the mesh can cover, then smooth edges."""
        cells, border = panel.floor_cells, cv2.BORDER_REPLICATE
        dark = cv2.remap(shadow, cells, None, cv2.INTER_LINEAR, borderMode=border)
        picture = panel.empty * dark[..., None]
        window = _window(view)
        part, rays = picture[window], panel.rays[window]
        points = panel.centres[window].reshape(-1, 2)
        colors, cover = self._colors(view, points, rays.reshape(-1, 3))
        colors, cover = colors.reshape(rays.shape), cover.reshape(rays.shape[:2])
        edges = _edges(np.where(cover[..., None], colors, part), cover)
        inner = cover & ~edges
        part[inner] = colors[inner]
        # edge pixels: the mean of their samples, over the background
        y, x = np.nonzero(edges)
        corner = np.stack([x + window[1].start, y + window[0].start], -1)
        points = (corner[:, None] + self._subpixels).reshape(-1, 2).astype(np.float32)
        colors, cover = self._colors(view, points, view.camera.directions(points))
        count = len(self._subpixels)
        total = colors.reshape(-1, count, 3).sum(axis=1)
        missed = count - cover.reshape(-1, count).sum(axis=1, dtype=np.float32)
        part[y, x] = (total + part[y, x] * missed[:, None]) / count
        return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)

    def _colors(
        self, view: _View, points: NDArray[np.float32], rays: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Colours sRGB 0..255 `(N, 3)`, black without a hit, and which rays hit `(N,)`."""
        hits = view.first_hits(points, rays)
        seen = np.flatnonzero(hits.cover)
        rays = rays.take(seen, axis=0)
        corners = self._faces.take(hits.faces, axis=0).T
        a, b, c = (view.values.take(corner, axis=0) for corner in corners)
        u, v = hits.u[:, None], hits.v[:, None]
        values = a * (1 - u - v) + b * u + c * v
        front = facing_normals(values[:, :3], hits.normals, rays)
        albedo, lights = self._albedo.at(values[:, 4:]), lights_of(view.camera.axes)
        lit = shade(albedo, front, rays, values[:, 3], lights)
        linear = albedo + (lit - albedo) * self._light
        colors = np.zeros((len(points), 3), np.float32)
        colors[seen] = to_srgb(linear)
        return colors, hits.cover


def _panel(camera: Camera, floor: Floor) -> _Panel:
    size = camera.size_px
    y, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
    centres = np.stack([x, y], -1)
    rays = camera.directions(centres.reshape(-1, 2)).reshape(size, size, 3)
    return _Panel(camera, background(size), centres, rays, floor.cells(camera, rays))


class _Albedo:
    """The surface's own colour, linear: from a texture, from vertex colours, or grey-brown clay.

    `values` float32 `(V, C)` have to be interpolated: uv, the colours themselves, or nothing.
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
        """Albedo `(N, 3)`, or `(3,)` for all, at points with interpolated values `(N, C)`."""
        if self._picture is not None:
            return srgb_to_linear(sample_texture(self._picture, values))
        return values if values.shape[1] else np.array(CLAY, np.float32)


def _window(view: _View) -> tuple[slice, slice]:
    """Rows and columns of the picture that the mesh can cover, and a pixel around them."""
    size_px = view.camera.size_px
    seen = view.camera.project(view.vertices)
    low = np.clip(np.floor(seen.min(axis=0)) - 2, 0, size_px - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 2, 1, size_px).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _edges(colors: NDArray[np.float32], cover: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels `(h, w)` where one sample is not enough: outlines and jumps in brightness."""
    green = np.ascontiguousarray(colors[..., 1])  # about the brightness, at a third of the cost
    edges = np.zeros(cover.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        jumps = np.abs(green[here] - green[there]) > _VISIBLE_JUMP
        jumps |= cover[here] != cover[there]
        edges[here] |= jumps
        edges[there] |= jumps
    return edges
