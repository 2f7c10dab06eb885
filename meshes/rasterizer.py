"""The preview's tracer for a CUDA GPU: finds what rays hit by rasterizing with PyTorch3D.

renderer.py does the shading in numpy, so that the pictures are nearly the same as raytracer.py's.
Imported only where PyTorch3D is installed (child/exports.py decides).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
from pytorch3d.structures import Meshes

from meshes.camera import Camera
from meshes.external_tools import ToolFailed
from meshes.normals import face_normals
from meshes.renderer import FirstHits, Hits, MeshRenderer
from meshes.sequence import MeshSequence

_SAMPLES = 3
"""Samples per pixel in each direction; renderer.py uses one of them, and all on outlines."""
_MAP_PX = 160
"""Side of the maps that show what blocks light from one direction."""
_MAP_LAYERS = 8
"""How many surfaces behind one another such a map holds."""
_SUBPIXELS = (np.mgrid[:_SAMPLES, :_SAMPLES].reshape(2, -1).T + 0.5) / _SAMPLES


def make_rasterizer(sequence: MeshSequence, device: str = "cuda:0") -> MeshRenderer:
    """The renderer of these meshes. Raises ValueError for a texture that cannot be decoded.

    Its `render` raises ToolFailed when the GPU fails.
    """
    trace = partial(_RasterizedMesh, sequence.faces, torch.device(device))
    return MeshRenderer(sequence, trace, _SUBPIXELS)


@contextmanager
def _torch_errors_as_ours() -> Iterator[None]:
    try:
        yield
    except RuntimeError as exc:  # what CUDA and torch raise, also out of memory
        raise ToolFailed("the GPU could not draw the preview") from exc


class _RasterizedMesh:
    """renderer.TracedMesh of vertices `(V, 3)` and faces `(F, 3)`."""

    @_torch_errors_as_ours()
    def __init__(
        self, faces: NDArray[np.int32], device: torch.device, vertices: NDArray[np.float32]
    ) -> None:
        self._host_vertices, self._host_faces = vertices, faces
        self._faces = torch.from_numpy(faces.astype(np.int64)).to(device)
        self._vertices = torch.from_numpy(vertices).to(device)
        self._middle = (self._vertices.amin(dim=0) + self._vertices.amax(dim=0)) / 2
        self._radius = (self._vertices - self._middle).norm(dim=1).max().clamp(min=1e-6) * 1.01
        a, b, c = self._vertices[self._faces].unbind(dim=1)
        self._corner, self._normal = a, torch.linalg.cross(b - a, c - a)

    @_torch_errors_as_ours()
    def blocked(
        self, origins: NDArray[np.float32], directions: NDArray[np.float32], reach: float
    ) -> NDArray[np.bool_]:
        """A map tells which faces can block a ray, the faces' planes whether they do.

        With depths from the map instead, faces at a steep angle to it would block their own rays.
        """
        kinds, kind = np.unique(directions, axis=0, return_inverse=True)
        axes = self._tensor(_axes_along(kinds))
        places, depths = self._places(self._vertices @ axes.mT, axes)
        found, _, _ = _raster(places, depths, self._faces, _MAP_PX, _MAP_LAYERS)
        start, way = self._tensor(origins), self._tensor(directions)
        which = torch.from_numpy(kind.reshape(-1)).to(self._vertices.device)
        places, _ = self._places((axes[which] @ start[..., None])[..., 0], axes[which])
        column, row = places.long().clamp(0, _MAP_PX - 1).unbind(dim=-1)
        faces = found[which, row, column]  # (N, layers)
        normal = self._normal[faces]
        distance = ((self._corner[faces] - start[:, None]) * normal).sum(-1)
        distance = distance / (way[:, None] * normal).sum(-1)
        met = (faces >= 0) & (distance > 0) & (distance < reach)
        return np.asarray(met.any(dim=1).cpu().numpy())

    @_torch_errors_as_ours()
    def heights(self, grid: NDArray[np.float32]) -> NDArray[np.float32]:
        """A map from below: the floor's cells are its pixels."""
        corner, cell = grid[0, 0], float(grid[0, 1, 0] - grid[0, 0, 0])
        from_corner = self._vertices - self._tensor(corner)
        places = from_corner[:, [0, 2]] / cell + 0.5
        _, _, heights = _raster(places[None], from_corner[None, :, 1], self._faces, len(grid))
        above = heights[0, ..., 0]
        return np.asarray(above.masked_fill(above < 0, torch.inf).cpu().numpy())

    @_torch_errors_as_ours()
    def seen_by(self, camera: Camera) -> FirstHits:
        """All samples of the picture are rasterized at once; rays take the nearest sample."""
        size = camera.size_px * _SAMPLES
        places = self._tensor(camera.project(self._host_vertices) * np.float32(_SAMPLES))
        depths = self._tensor((camera.eye - self._host_vertices) @ camera.axes[2])
        found, weights, _ = _raster(places[None], depths[None], self._faces, size, perspective=True)
        faces = found[0, ..., 0].cpu().numpy()
        u, v = weights[0, ..., 0, 1:].cpu().numpy().reshape(-1, 2).T.reshape(2, size, size)
        if self._vertices.is_cuda:
            torch.cuda.empty_cache()  # another process makes the next job's meshes on this GPU

        def first_hits(points: NDArray[np.float32], rays: NDArray[np.float32]) -> Hits:
            del rays
            column, row = (points * _SAMPLES).astype(np.intp).clip(0, size - 1).T
            cover = faces[row, column] >= 0
            sample = row[cover], column[cover]
            normals = face_normals(self._host_vertices, self._host_faces[faces[sample]])
            return Hits(cover, faces[sample], u[sample], v[sample], normals)

        return first_hits

    def _places(self, seen: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels and depths, from the light, of points in the axes of their maps `(..., 3)`."""
        middle = axes @ self._middle
        if seen.dim() > middle.dim():
            middle = middle[:, None]
        seen = (seen - middle) / self._radius
        return (seen[..., :2] + 1) * (_MAP_PX / 2), 1 - seen[..., 2]

    def _tensor(self, array: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._vertices)


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

    B pictures of one mesh's `faces` `(F, 3)`: its vertices are at `places` `(B, V, 2)`, x right and
    y down in px, and `depths` `(B, V)`, not below 0.
    """
    # PyTorch3D's square: x to the left, y up, both from -1 to 1
    vertices = torch.cat([1 - places * (2 / size_px), depths[..., None]], dim=-1)
    meshes = Meshes(vertices, faces.expand(len(vertices), -1, -1))
    found, depth, weights, _ = rasterize_meshes(
        meshes, size_px, faces_per_pixel=layers, perspective_correct=perspective
    )
    # PyTorch3D counts the faces of all pictures together
    first = torch.arange(len(vertices), device=faces.device)[:, None, None, None] * len(faces)
    return torch.where(found < 0, -1, found - first), weights, depth


def _axes_along(directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Orthogonal axes `(D, 3, 3)`, as rows; the third ones are these unit directions `(D, 3)`."""
    other = np.zeros_like(directions)
    other[np.arange(len(directions)), np.abs(directions).argmin(axis=1)] = 1
    first = np.cross(other, directions)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    return np.stack([first, np.cross(directions, first), directions], axis=1).astype(np.float32)
