"""The preview's renderer on a CUDA GPU: PyTorch3D finds what each sample shows, torch lights it.

The same studio, cameras and light as raytracer.py's, and very nearly the same pictures. Imported
only where PyTorch3D is installed (child/exports.py decides); nothing else of ours needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes
from torch.nn.functional import grid_sample

from meshes.camera import Camera
from meshes.h264 import PreviewFailed
from meshes.preview_background import Picture
from meshes.preview_scene import Panel, PreviewScene
from meshes.sequence import MeshSequence
from meshes.shading import CLAY, SRGB, facing_normals, lights_of, shade
from meshes.texture import decode_texture, srgb_to_linear

_SAMPLES = 3
"""Each pixel is the mean of so many samples in each direction."""
_LARGEST_TEXTURE_PX = 2048
_MAP_PX = 160
"""Side of the maps that tell what is in the way of light from one direction."""
_MAP_LAYERS = 8
"""How many surfaces behind one another such a map knows."""


class Rasterizer:
    """Draws the timesteps of one sequence for the same cameras.

    Raises ValueError on a texture that cannot be decoded, PreviewFailed when the GPU fails.
    """

    def __init__(
        self, sequence: MeshSequence, cameras: Sequence[Camera], device: str = "cuda:0"
    ) -> None:
        self._device = torch.device(device)
        self._preview_scene = PreviewScene(sequence, cameras)
        with _failures_named():
            self._faces = self._tensor(sequence.faces.astype(np.int64))
            self._albedo = _Albedo(sequence, self._device)
            self._rays = [self._tensor(_sample_rays(camera)) for camera in cameras]

    def render(self, vertices: NDArray[np.float32], normals: NDArray[np.float32]) -> list[Picture]:
        """One picture a camera of the mesh with these vertices and normals `(V, 3)`."""
        with _failures_named(), torch.inference_mode():
            obstacles = _Obstacles(self._tensor(vertices), self._faces)
            openness = self._preview_scene.occlusion.openness(obstacles, vertices, normals)
            values = self._tensor(np.column_stack([normals, openness, self._albedo.values]))
            shadow = self._preview_scene.floor.shadow(obstacles)
            pictures = [
                self._draw(panel, rays, vertices, values, panel.with_shadow(shadow))
                for panel, rays in zip(self._preview_scene.panels, self._rays, strict=True)
            ]
            torch.cuda.empty_cache()  # another process makes the next job's meshes on this GPU
            return pictures

    def _draw(
        self,
        panel: Panel,
        rays: torch.Tensor,
        vertices: NDArray[np.float32],
        values: torch.Tensor,
        behind: NDArray[np.float32],
    ) -> Picture:
        """All samples of a picture, then their means over what lies behind them."""
        camera, size = panel.camera, panel.camera.size_px
        places = self._tensor(camera.project(vertices) * np.float32(_SAMPLES))
        depths = self._tensor((camera.eye - vertices) @ camera.axes[2])
        found, weights, _ = _raster(
            places[None], depths[None], self._faces, size * _SAMPLES, perspective=True
        )
        seen = found[0, ..., 0] >= 0
        corners = self._faces[found[0, ..., 0][seen]]
        blended = (values[corners] * weights[0, ..., 0, :][seen][..., None]).sum(dim=1)
        a, b, c = self._tensor(vertices)[corners].unbind(dim=1)
        rays = rays[seen]
        front = facing_normals(blended[:, :3], torch.linalg.cross(b - a, c - a), rays)
        lights = self._tensor(lights_of(camera.axes))
        linear = shade(self._albedo.at(blended[:, 4:]), front, rays, blended[:, 3], lights)
        colors = linear.new_zeros(*seen.shape, 3)
        colors[seen] = self._to_srgb(linear)
        mean = colors.view(size, _SAMPLES, size, _SAMPLES, 3).mean(dim=(1, 3))
        cover = seen.float().view(size, _SAMPLES, size, _SAMPLES).mean(dim=(1, 3))
        picture = mean + self._tensor(behind) * (1 - cover[..., None])
        return np.asarray((picture + 0.5).clamp(0, 255).byte().cpu().numpy())

    def _to_srgb(self, linear: torch.Tensor) -> torch.Tensor:
        steps = (linear * (len(SRGB) / 2)).long().clamp(0, len(SRGB) - 1)
        return self._tensor(SRGB)[steps]

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class _Obstacles:
    """See occlusion.Obstacles: maps of the mesh `(V, 3)`, `(F, 3)`, seen from where light comes."""

    def __init__(self, vertices: torch.Tensor, faces: torch.Tensor) -> None:
        self._faces, self._vertices = faces, vertices
        self._middle = (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
        self._radius = (vertices - self._middle).norm(dim=1).max().clamp(min=1e-6) * 1.01
        a, b, c = vertices[faces].unbind(dim=1)
        self._corner, self._normal = a, torch.linalg.cross(b - a, c - a)

    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: float
    ) -> NDArray[np.bool_]:
        """A map tells which faces may be in the way of a ray, their planes whether they are.

        A depth read off the map instead would let faces that stand steep to it shade themselves.
        """
        kinds, kind = np.unique(directions, axis=0, return_inverse=True)
        axes = torch.from_numpy(_axes_along(kinds)).to(self._vertices)
        found, _, _ = _raster(
            *self._places(self._vertices @ axes.mT, axes), self._faces, _MAP_PX, _MAP_LAYERS
        )
        start = torch.from_numpy(origins).to(self._vertices)
        way = torch.from_numpy(directions).to(self._vertices)
        which = torch.from_numpy(kind.reshape(-1)).to(self._vertices.device)
        places, _ = self._places((axes[which] @ start[..., None])[..., 0], axes[which])
        column, row = places.long().clamp(0, _MAP_PX - 1).unbind(dim=-1)
        faces = found[which, row, column]  # (N, layers)
        normal = self._normal[faces]
        distance = ((self._corner[faces] - start[:, None]) * normal).sum(-1)
        distance = distance / (way[:, None] * normal).sum(-1)
        met = (faces >= 0) & (distance > 0) & (distance < reach)
        return np.asarray(met.any(dim=1).cpu().numpy())

    def heights(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """The map from below: the floor's cells are its pixels."""
        corner, cell = grid[0, 0], float(grid[0, 1, 0] - grid[0, 0, 0])
        from_corner = self._vertices - torch.from_numpy(corner).to(self._vertices)
        places = from_corner[:, [0, 2]] / cell + 0.5
        _, _, heights = _raster(places[None], from_corner[None, :, 1], self._faces, len(grid))
        above = heights[0, ..., 0]
        return np.asarray(above.masked_fill(above < 0, torch.inf).cpu().numpy())

    def _places(self, seen: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and depths, from the light, of points in the axes of their maps `(..., 3)`."""
        middle = axes @ self._middle
        if seen.dim() > middle.dim():
            middle = middle[:, None]
        seen = (seen - middle) / self._radius
        return (seen[..., :2] + 1) * (_MAP_PX / 2), 1 - seen[..., 2]


class _Albedo:
    """The surface's own colour, linear. `values` float32 `(V, C)` are what is blended for it."""

    def __init__(self, sequence: MeshSequence, device: torch.device) -> None:
        self._picture: torch.Tensor | None = None
        self._clay = torch.tensor(CLAY, device=device)
        self.values = np.zeros((sequence.vertices.shape[1], 0), np.float32)
        if sequence.texture:
            picture = srgb_to_linear(decode_texture(sequence.texture, _LARGEST_TEXTURE_PX))
            self._picture = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None]
            self.values = sequence.texture.uv
        elif sequence.colors is not None:
            self.values = np.asarray(sequence.colors[:, :3] / 255, np.float32)

    def at(self, values: torch.Tensor) -> torch.Tensor:
        """Albedo `(N, 3)`, or `(3,)` for all, at points with these blended values `(N, C)`."""
        if self._picture is not None:
            places = (values.clamp(0, 1) * 2 - 1)[None, None]
            read = grid_sample(self._picture, places, padding_mode="border", align_corners=False)
            return read[0, :, 0].T
        return values if values.shape[1] else self._clay


def _raster(
    places: torch.Tensor,
    depths: torch.Tensor,
    faces: torch.Tensor,
    size_px: int,
    layers: int = 1,
    *,
    perspective: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Faces `(B, S, S, layers)`, nearest first and -1 for none; their weights; their depths.

    B pictures of one mesh's `faces` `(F, 3)`: its vertices stand at `places` `(B, V, 2)`, x right
    and y down in px, and `depths` `(B, V)`, not below 0.
    """
    # PyTorch3D's own square: x to the left, y up, both from -1 to 1
    vertices = torch.cat([1 - places * (2 / size_px), depths[..., None]], dim=-1)
    meshes = Meshes(vertices, faces.expand(len(vertices), -1, -1))
    found, depth, weights, _ = rasterize_meshes(
        meshes, size_px, faces_per_pixel=layers, perspective_correct=perspective
    )
    # its faces are counted through all pictures
    first = torch.arange(len(vertices), device=faces.device)[:, None, None, None] * len(faces)
    return torch.where(found < 0, -1, found - first), weights, depth


def _sample_rays(camera: Camera) -> NDArray[np.float32]:
    """Rays `(S * samples, S * samples, 3)` through all samples of a camera's picture."""
    size = camera.size_px * _SAMPLES
    y, x = (np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)) / np.float32(_SAMPLES)
    return camera.directions(np.stack([x, y], -1).reshape(-1, 2)).reshape(size, size, 3)


def _axes_along(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Right-angled axes `(D, 3, 3)`, as rows, whose third are these unit directions `(D, 3)`."""
    other = np.zeros_like(directions)
    other[np.arange(len(directions)), np.abs(directions).argmin(axis=1)] = 1
    first = np.cross(other, directions)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(directions, first), directions], axis=1).astype(np.float32)


@contextmanager
def _failures_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:  # what CUDA and torch raise, out of memory included
        raise PreviewFailed("the GPU could not draw the preview") from exc
