"""From the flat track back to the solid: the surface rides on the control mesh.

Every vertex keeps its barycentric place in the control mesh; thickness follows how the sheet around
it grows and shrinks. What leaves here is sound: no triangle turned over, none collapsed, positive
volume in every frame. Reads no picture.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from silhouette.inflation import Shape, volume
from silhouette.outline import Points
from silhouette.tracking import Track
from silhouette.triangulation import Sheet, averaging, embed, signed_areas

Motion = NDArray[np.float64]
"""Surface vertices over time, `(T, V, 3)`, canvas pixels, z away from the viewer."""

_LOCAL = 0.5
"""Share of the local growth in the thickness; the rest is the whole subject's."""
_THICKNESS_LIMITS = (0.6, 1.6)
_SMOOTH_FRAMES = 1.0
_FACING = 0.15
"""Cosine to the viewer above which a triangle may not turn over."""
_LEAST_AREA = 2e-3
"""Of the median triangle's: below, a triangle counts as collapsed."""
_MENDING_ROUNDS = 24


def lift(
    shape: Shape, sheet: Sheet, track: Track, reference: int, tick: Callable[[], None]
) -> Motion:
    """Carry `shape` along `track` `(T, N, 2)`, the motion of `sheet`. In the reference frame the
    result is `shape` itself, to the last digit."""
    flat, depth = shape.vertices[:, :2], shape.vertices[:, 2]
    corners, weights = embed(sheet, flat)
    thickness = _thickness(track, sheet)
    thickness /= thickness[reference]
    inner = np.clip(weights, 0, 1)
    inner /= inner.sum(axis=1, keepdims=True)

    def carried(points: Points) -> Points:
        out: Points = np.einsum("nk,nkd->nd", weights, points[corners], optimize=True)
        return out

    offset = flat - carried(track[reference])  # what clipping took from points outside the sheet
    out = np.empty((len(track), *shape.vertices.shape))
    mender = _Mender(shape)
    for t, points in enumerate(track):
        out[t, :, :2] = carried(points) + offset
        out[t, :, 2] = depth * np.einsum("nk,nk->n", inner, thickness[t][corners])
        if t != reference:
            out[t] = mender.mend(out[t])
        tick()
    return out


def _thickness(track: Track, sheet: Sheet) -> NDArray[np.float64]:
    """Growth of thickness per frame and node `(T, N)`: the square root of that of the area.

    A limb that turns towards the viewer looks shorter and is no thinner; one that comes nearer
    looks larger in all directions. Half local and half global, within limits, is a compromise.
    """
    rest = signed_areas(sheet.points, sheet.triangles)
    mean = averaging(sheet.triangles, len(sheet.points))

    def around(areas: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros(len(sheet.points))
        np.add.at(total, sheet.triangles, areas[:, None])
        for _ in range(30):
            total = 0.5 * total + 0.5 * (mean @ total)
        return total

    rest_around = np.maximum(around(rest), 1e-9)
    frames = []
    for points in track:
        areas = np.maximum(signed_areas(points, sheet.triangles), 0)
        whole = np.sqrt(max(float(areas.sum()), 1e-6) / float(rest.sum()))
        local = np.clip(np.sqrt(around(areas) / rest_around), *_THICKNESS_LIMITS)
        frames.append(local**_LOCAL * whole ** (1 - _LOCAL))
    smooth: NDArray[np.float64] = gaussian_filter1d(
        np.stack(frames), _SMOOTH_FRAMES, axis=0, mode="nearest"
    )
    return smooth


class _Mender:
    """Takes faults out of one frame by evening out its displacement from the shape around them."""

    def __init__(self, shape: Shape) -> None:
        self._rest, self._triangles = shape.vertices, shape.triangles
        self._mean = averaging(shape.triangles, len(shape.vertices))
        facing = _normals_z(shape.vertices, shape.triangles)
        areas = _areas(shape.vertices, shape.triangles)
        self._facing = np.where(np.abs(facing) > 2 * _FACING * areas, np.sign(facing), 0)
        self._least = _LEAST_AREA * float(np.median(areas))

    def mend(self, vertices: Points) -> Points:
        """The frame without faults; where smoothing does not help, closer to the rigid shape."""
        for attempt in range(_MENDING_ROUNDS):
            faulty = self._faulty(vertices)
            if not faulty.any():
                return vertices
            near = np.zeros(len(vertices))
            near[self._triangles[faulty]] = 1
            for _ in range(1 + attempt // 5):
                near = near + self._mean @ near
            patch = np.flatnonzero(near)
            vertices = vertices.copy()
            if attempt < _MENDING_ROUNDS // 4:  # keeps the shape, where the patch is not turned
                moved = vertices - self._rest
                vertices[patch] = self._rest[patch] + self._mean[patch] @ moved
            else:
                vertices[patch] = self._mean[patch] @ vertices
        if self._sound(vertices):
            return vertices
        rigid = _best_similarity(self._rest, vertices)
        for share in (0.25, 0.5, 0.75):
            blend = (1 - share) * vertices + share * rigid
            if self._sound(blend):
                return blend
        return rigid

    def _faulty(self, vertices: Points) -> NDArray[np.bool_]:
        """Triangles that are turned over or collapsed."""
        turned = self._facing * _normals_z(vertices, self._triangles) < 0
        out: NDArray[np.bool_] = turned | (_areas(vertices, self._triangles) < self._least)
        return out

    def _sound(self, vertices: Points) -> bool:
        """No collapsed triangle, positive volume; a few turned ones are better than no motion."""
        collapsed = _areas(vertices, self._triangles) < self._least
        turned = self._facing * _normals_z(vertices, self._triangles) < 0
        return bool(
            np.isfinite(vertices).all()
            and not collapsed.any()
            and np.count_nonzero(turned) < 1e-3 * len(turned)
            and volume(vertices, self._triangles) > 0
        )


def _normals_z(vertices: Points, triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    """Twice the triangles' signed areas as the viewer sees them."""
    out: NDArray[np.float64] = 2 * signed_areas(vertices[:, :2], triangles)
    return out


def _areas(vertices: Points, triangles: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    out: NDArray[np.float64] = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    return out


def _best_similarity(rest: Points, moved: Points) -> Points:
    """`rest` turned in the picture plane, scaled and shifted to lie on `moved` (least squares)."""
    centre, target = rest.mean(axis=0), moved.mean(axis=0)
    one = (rest - centre)[:, :2] @ [1, 1j]
    two = (moved - target)[:, :2] @ [1, 1j]
    turn = np.vdot(one, two) / max(float(np.vdot(one, one).real), 1e-9)
    if not np.isfinite(turn) or abs(turn) < 0.2:
        turn = 1.0
    turned = one * turn
    out: Points = np.column_stack([turned.real, turned.imag, (rest - centre)[:, 2] * abs(turn)])
    out += target
    return out
