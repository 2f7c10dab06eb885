"""Moves the inflated surface with the tracked control mesh.

Every vertex keeps its barycentric coordinates in the control mesh; its thickness follows the growth
of the control mesh around it. In every frame of the result no triangle is collapsed, almost
none is turned over, and the volume is positive. Reads no images. Called by pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from meshes.normals import face_normals
from silhouette.inflation import volume
from silhouette.tracking import Track
from silhouette.triangulation import Mesh, averaging, embed, signed_areas
from video.fields import Points

Motion = NDArray[np.float64]
"""Surface vertices over time, `(T, V, 3)`, crop pixels, z away from the viewer."""

_LOCAL = 0.5
"""Share of the local growth in the thickness; the rest is the whole subject's."""
_THICKNESS_LIMITS = (0.6, 1.6)
_SMOOTH_FRAMES = 1.0
_FACING = 0.15
"""Cosine to the viewer above which a triangle may not turn over."""
_LEAST_AREA = 2e-3
"""Of the median triangle's: below, a triangle counts as collapsed."""
_REPAIR_ROUNDS = 24


def move_surface(
    mesh: Mesh, control_mesh: Mesh, track: Track, reference: int, tick: Callable[[], None]
) -> Motion:
    """Move `mesh` along `track` `(T, N, 2)`, the motion of `control_mesh`.

    In the reference frame the result is exactly `mesh`.
    """
    flat, depth = mesh.points[:, :2], mesh.points[:, 2]
    corners, weights = embed(control_mesh, flat)
    thickness = _thickness(track, control_mesh)
    thickness /= thickness[reference]
    inner = np.clip(weights, 0, 1)
    inner /= inner.sum(axis=1, keepdims=True)

    def carried(points: Points) -> Points:
        return np.asarray(np.einsum("nk,nkd->nd", weights, points[corners], optimize=True))

    # the part that clipping removed for points outside the control mesh
    offset = flat - carried(track[reference])
    out = np.empty((len(track), *mesh.points.shape))
    fault_repair = _FaultRepair(mesh)
    for t, points in enumerate(track):
        out[t, :, :2] = carried(points) + offset
        out[t, :, 2] = depth * np.einsum("nk,nk->n", inner, thickness[t][corners])
        if t != reference:
            out[t] = fault_repair.repair(out[t])
        tick()
    return out


def _thickness(track: Track, control_mesh: Mesh) -> NDArray[np.float64]:
    """Growth of thickness per frame and node `(T, N)`: the square root of the growth of the area.

    A limb that turns towards the viewer looks shorter but is not thinner; one that comes nearer
    looks larger in all directions. Half local and half global growth is a compromise.
    """
    rest = signed_areas(control_mesh.points, control_mesh.triangles)
    mean = averaging(control_mesh.triangles, len(control_mesh.points))

    def around(areas: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros(len(control_mesh.points))
        np.add.at(total, control_mesh.triangles, areas[:, None])
        for _ in range(30):
            total = 0.5 * total + 0.5 * (mean @ total)
        return total

    rest_around = np.maximum(around(rest), 1e-9)
    frames = []
    for points in track:
        areas = np.maximum(signed_areas(points, control_mesh.triangles), 0)
        whole = np.sqrt(max(float(areas.sum()), 1e-6) / float(rest.sum()))
        local = np.clip(np.sqrt(around(areas) / rest_around), *_THICKNESS_LIMITS)
        frames.append(local**_LOCAL * whole ** (1 - _LOCAL))
    return np.asarray(gaussian_filter1d(np.stack(frames), _SMOOTH_FRAMES, axis=0, mode="nearest"))


class _FaultRepair:
    """Repairs turned-over and collapsed triangles of one frame by smoothing around them."""

    def __init__(self, mesh: Mesh) -> None:
        self._rest, self._triangles = mesh.points, mesh.triangles
        self._mean = averaging(mesh.triangles, len(mesh.points))
        normals_z = face_normals(mesh.points, mesh.triangles)[:, 2]
        areas = triangle_areas(mesh.points, mesh.triangles)
        self._facing = np.where(np.abs(normals_z) > 2 * _FACING * areas, np.sign(normals_z), 0)
        self._least = _LEAST_AREA * float(np.median(areas))

    def repair(self, vertices: Points) -> Points:
        """Vertices `(V, 3)` without faults; if smoothing fails, nearer to a rigid motion."""
        for attempt in range(_REPAIR_ROUNDS):
            turned, collapsed = self._faults(vertices)
            faulty = turned | collapsed
            if not faulty.any():
                return vertices
            near = np.zeros(len(vertices))
            near[self._triangles[faulty]] = 1
            for _ in range(1 + attempt // 5):
                near = near + self._mean @ near
            patch = np.flatnonzero(near)
            vertices = vertices.copy()
            if attempt < _REPAIR_ROUNDS // 4:  # smooth the displacement, which keeps the shape
                moved = vertices - self._rest
                vertices[patch] = self._rest[patch] + self._mean[patch] @ moved
            else:
                vertices[patch] = self._mean[patch] @ vertices
        if self._is_acceptable(vertices):
            return vertices
        rigid = _best_similarity(self._rest, vertices)
        for share in (0.25, 0.5, 0.75):
            blend = (1 - share) * vertices + share * rigid
            if self._is_acceptable(blend):
                return blend
        return rigid

    def _faults(self, vertices: Points) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which triangles are turned over, and which are collapsed."""
        normals = face_normals(vertices, self._triangles)
        areas = 0.5 * np.linalg.norm(normals, axis=1)
        return self._facing * normals[:, 2] < 0, areas < self._least

    def _is_acceptable(self, vertices: Points) -> bool:
        """No collapsed triangle and positive volume; a few turned-over triangles are accepted."""
        turned, collapsed = self._faults(vertices)
        return bool(
            np.isfinite(vertices).all()
            and not collapsed.any()
            and np.count_nonzero(turned) < 1e-3 * len(turned)
            and volume(vertices, self._triangles) > 0
        )


def triangle_areas(
    vertices: NDArray[np.floating], triangles: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Areas `(F,)` of the triangles of vertices `(V, 3)`."""
    normals = face_normals(vertices.astype(np.float64), triangles)
    return np.asarray(0.5 * np.linalg.norm(normals, axis=1))


def _best_similarity(rest: Points, moved: Points) -> Points:
    """`rest` turned in the picture plane, scaled and shifted to lie on `moved` (least squares)."""
    centre, target = rest.mean(axis=0), moved.mean(axis=0)
    one = (rest - centre)[:, :2] @ [1, 1j]
    two = (moved - target)[:, :2] @ [1, 1j]
    turn = np.vdot(one, two) / max(float(np.vdot(one, one).real), 1e-9)
    if not np.isfinite(turn) or abs(turn) < 0.2:
        turn = 1.0
    turned = one * turn
    depth = (rest - centre)[:, 2] * abs(turn)
    return np.asarray(np.column_stack([turned.real, turned.imag, depth]) + target)
