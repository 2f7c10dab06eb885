"""Triangulates the inside of an outline: a flat, manifold mesh with even triangles.

A regular triangle lattice is snapped and clipped to the zero line of a signed distance, the 2-D
form of isosurface stuffing (Labelle and Shewchuk 2007). Used for the surface mesh (inflation.py)
and for the coarser control mesh (tracking.py). Has no depth and no time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from video.fields import Field, Points, gradient, sample_field

Triangles = NDArray[np.int64]
"""Vertex indices `(F, 3)`."""

_ROW = np.sqrt(3) / 2
_SNAP = 0.38
"""Lattice points closer than this to the zero line, in spacings, move onto it: no slivers."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in crop pixels: points `(N, 2)`, or `(N, 3)` with z away from the viewer.

    In a flat mesh the triangles have positive `signed_areas`; in a closed one they face outwards,
    and in these left-handed axes its signed volume is positive.
    """

    points: Points
    triangles: Triangles


def triangulate(distance: Field, count: int) -> Mesh:
    """Triangulate the inside of `distance` with about `count` points.

    Every edge has one or two triangles and every rim vertex lies on one rim only. Parts of fewer
    than four triangles are left out, so the mesh may be empty.
    """
    inside_px = np.count_nonzero(distance > 0)
    if not inside_px:
        return Mesh(np.zeros((0, 2)), np.zeros((0, 3), np.int64))
    spacing = float(np.sqrt(inside_px / (_ROW * count)))
    points, triangles = _lattice(distance.shape, spacing)
    points, level = _snap(points, distance, spacing)
    points, triangles = _clip(points, triangles, level, distance)
    is_turned = signed_areas(points, triangles) < 0
    triangles = np.where(is_turned[:, None], triangles[:, ::-1], triangles)
    triangles = _without_small_parts(triangles)
    points, triangles = _split_bowties(points, triangles)
    used, triangles = np.unique(triangles, return_inverse=True)
    return Mesh(points[used], triangles.reshape(-1, 3))


def signed_areas(points: Points, triangles: Triangles) -> NDArray[np.float64]:
    """Area of each triangle in square pixels, negative where it is turned over."""
    a, b, c = (points[triangles[:, k]] for k in range(3))
    u, v = b - a, c - a
    return 0.5 * (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def half_edges(triangles: Triangles) -> Triangles:
    """Directed edges `(3F, 2)`: of all triangles the first, then the second, then the third."""
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def edges(triangles: Triangles) -> Triangles:
    """Undirected edges `(E, 2)`, each once, smaller index first."""
    return np.unique(np.sort(half_edges(triangles), axis=1), axis=0)


def rim_edges(triangles: Triangles) -> Triangles:
    """Directed edges that only one triangle has."""
    directed = half_edges(triangles)
    low, high = np.sort(directed, axis=1).T
    key = low * (triangles.max(initial=0) + 1) + high
    _, which, count = np.unique(key, return_inverse=True, return_counts=True)
    return np.asarray(directed[count[which] == 1])


def neighbours(triangles: Triangles, vertices: int) -> sp.csr_array:
    """Adjacency `(V, V)` of ones and zeros."""
    low, high = edges(triangles).T
    both_ways = np.r_[low, high], np.r_[high, low]
    return sp.coo_array((np.ones(2 * len(low)), both_ways), shape=(vertices, vertices)).tocsr()


def averaging(triangles: Triangles, vertices: int) -> sp.csr_array:
    """The operator `(V, V)` that gives each vertex the mean of its neighbours."""
    adjacency = neighbours(triangles, vertices)
    degree = np.maximum(adjacency.sum(axis=1), 1)
    return (sp.diags_array(1 / degree) @ adjacency).tocsr()


def embed(mesh: Mesh, points: Points) -> tuple[Triangles, Points]:
    """Barycentric coordinates of `points` in `mesh`: triangle corners `(N, 3)`, weights `(N, 3)`.

    A point outside takes the triangle that it is least outside of, with clipped extrapolation.
    """
    tree = cKDTree(mesh.points[mesh.triangles].mean(axis=1))
    found, weights = _among_nearest(mesh, tree, points, 3)
    outside = np.flatnonzero(weights.min(axis=1) < -1e-9)
    found[outside], weights[outside] = _among_nearest(mesh, tree, points[outside], 12)
    weights = np.clip(weights, -0.6, 1.6)
    return mesh.triangles[found], weights / weights.sum(axis=1, keepdims=True)


def _among_nearest(
    mesh: Mesh, tree: Any, points: Points, count: int
) -> tuple[NDArray[np.int64], Points]:
    """The best of the `count` triangles with the nearest centroids, and barycentric weights."""
    _, near = tree.query(points, k=range(1, min(count, len(mesh.triangles)) + 1))
    corners = mesh.points[mesh.triangles[near]]
    origin = corners[:, :, 0]
    u, v, r = corners[:, :, 1] - origin, corners[:, :, 2] - origin, points[:, None] - origin
    area = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]
    area = np.where(np.abs(area) < 1e-9, 1e-9, area)
    b = (r[..., 0] * v[..., 1] - r[..., 1] * v[..., 0]) / area
    c = (u[..., 0] * r[..., 1] - u[..., 1] * r[..., 0]) / area
    best = np.minimum(np.minimum(b, c), 1 - b - c).argmax(axis=1)
    rows = np.arange(len(points))
    return near[rows, best], np.stack([1 - b - c, b, c], -1)[rows, best]


def _lattice(shape: tuple[int, ...], spacing: float) -> tuple[Points, Triangles]:
    """Equilateral triangles over the whole image and one row beyond it."""
    height, width = shape
    rows, columns = int(height / (spacing * _ROW)) + 3, int(width / spacing) + 3
    column, row = np.meshgrid(np.arange(columns), np.arange(rows))
    points = np.stack([(column + 0.5 * (row % 2) - 1) * spacing, (row - 1) * spacing * _ROW], -1)
    index = row * columns + column
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    odd = (row[:-1, :-1] % 2 == 1)[..., None]
    first = np.where(odd, np.stack([a, b, d], -1), np.stack([a, b, c], -1))
    second = np.where(odd, np.stack([a, d, c], -1), np.stack([b, d, c], -1))
    triangles = np.concatenate([first.reshape(-1, 3), second.reshape(-1, 3)])
    return points.reshape(-1, 2), triangles.astype(np.int64)


def _snap(points: Points, distance: Field, spacing: float) -> tuple[Points, Points]:
    """Move points near the zero line onto it. Returns points and their level: 0 where snapped."""
    height, width = distance.shape
    level = sample_field(distance, points).astype(np.float64)
    beyond = (points < 0).any(axis=1) | (points > (width - 1, height - 1)).any(axis=1)
    level[beyond] = -spacing
    near = (np.abs(level) < _SNAP * spacing) & ~beyond
    slope = gradient(distance)
    moved = points.copy()
    for _ in range(3):
        steepest = sample_field(slope, moved[near])
        step = sample_field(distance, moved[near]) / np.maximum((steepest**2).sum(1), 0.25)
        moved[near] -= step[:, None] * steepest
    near &= np.linalg.norm(moved - points, axis=1) <= 0.45 * spacing
    return np.where(near[:, None], moved, points), np.where(near, 0.0, level)


def _clip(
    points: Points, triangles: Triangles, level: Points, distance: Field
) -> tuple[Points, Triangles]:
    """Keep the part of the lattice where `level` >= 0 (Sutherland and Hodgman 1974)."""
    side = np.sign(level).astype(np.int64)
    corner = side[triangles]
    whole = (corner >= 0).all(axis=1) & (corner > 0).any(axis=1)
    flat = (corner == 0).all(axis=1)  # three snapped corners: inside if its centroid is
    flat[flat] = sample_field(distance, points[triangles[flat]].mean(axis=1)) > 0.3
    crossed = (corner > 0).any(axis=1) & (corner < 0).any(axis=1)

    pieces: list[tuple[int, int, int]] = []
    cuts: dict[tuple[int, int], int] = {}
    for triangle in triangles[crossed].tolist():
        polygon: list[int] = []
        for p, q in zip(triangle, triangle[1:] + triangle[:1], strict=True):
            if side[p] >= 0:
                polygon.append(p)
            if side[p] * side[q] < 0:
                key = (p, q) if p < q else (q, p)
                polygon.append(cuts.setdefault(key, len(points) + len(cuts)))
        pieces += [(polygon[0], polygon[k], polygon[k + 1]) for k in range(1, len(polygon) - 1)]
    if cuts:
        p, q = np.array(list(cuts)).T
        share = (level[p] / (level[p] - level[q]))[:, None]
        points = np.concatenate([points, points[p] + share * (points[q] - points[p])])
    clipped = np.array(pieces, np.int64).reshape(-1, 3)
    return points, np.concatenate([triangles[whole | flat], clipped])


def _without_small_parts(triangles: Triangles) -> Triangles:
    """Leave out parts of fewer than four triangles, joined by edges."""
    count = len(triangles)
    low, high = np.sort(half_edges(triangles), axis=1).T
    owner = np.tile(np.arange(count), 3)
    order = np.lexsort((high, low))
    same = (np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)
    a, b = owner[order][:-1][same], owner[order][1:][same]
    graph = sp.coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    _, piece = sp.csgraph.connected_components(graph, directed=False)
    return np.asarray(triangles[np.bincount(piece)[piece] >= 4])


def _split_bowties(points: Points, triangles: Triangles) -> tuple[Points, Triangles]:
    """Duplicate each vertex at which two fans of triangles touch in a point only."""
    triangles = triangles.copy()
    on_rims = np.bincount(rim_edges(triangles).ravel(), minlength=len(points))
    for vertex in np.flatnonzero(on_rims > 2):
        around = np.flatnonzero((triangles == vertex).any(axis=1))
        corners = triangles[around]
        # (N, N): how many corners two triangles share; in one fan, neighbours share an edge
        common = (corners[:, None, :, None] == corners[:, None]).sum(axis=(2, 3))
        count, fan = sp.csgraph.connected_components(common >= 2, directed=False)
        own_vertex = np.where(fan == 0, vertex, len(points) - 1 + fan)
        triangles[around] = np.where(corners == vertex, own_vertex[:, None], corners)
        points = np.concatenate([points, np.repeat(points[[vertex]], count - 1, axis=0)])
    return points, triangles
