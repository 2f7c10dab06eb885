"""Inflates a flat outline to a closed surface mesh.

Depth is invented: the outline is inflated symmetrically, so a disk becomes a ball, a band a
cylinder, and the back mirrors the front. The height field is the geometric mean of two known
methods: Poisson inflation (Gorelick et al. 2006; Baran and Lehtinen 2009), which is too thick where
limbs meet, and the union of medial balls (Blum 1967), which is too thin there. Uses no colours and
one frame only. Called by pipeline.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from numpy.typing import NDArray

from meshes.normals import face_normals, sum_of_faces
from silhouette.outline import signed_distance
from silhouette.triangulation import Mesh, averaging, edges, half_edges, rim_edges, triangulate
from video.fields import Field, Points, gradient, sample_field

_RELAX_ROUNDS = 20
_LEAST_SLOPE = 2.0
"""Slope of squared height over distance at the rim: a cylinder of radius r has 2 r."""


def inflate(alpha: Field, vertices: int) -> Mesh | None:
    """A watertight surface of about `vertices` vertices over the inside of `alpha`.

    None if `alpha` has no part large enough for a few triangles, or the surface is not watertight.
    """
    body = _Solid.from_alpha(alpha)
    flat_mesh = triangulate(body.distance, vertices // 2)
    if not len(flat_mesh.triangles):
        return None
    mesh, rim = _join_front_and_back(_split_chords(flat_mesh), body)
    relaxed = _relax(mesh, rim, body)
    is_valid = is_closed(relaxed.triangles) and volume(relaxed.points, relaxed.triangles) > 0
    return relaxed if is_valid else None


def volume(vertices: NDArray[np.floating], triangles: NDArray[np.integer]) -> float:
    """Signed volume by the divergence theorem; positive where triangles turn outwards."""
    a, b, c = (vertices[triangles[:, k]].astype(np.float64) for k in range(3))
    return float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6)


def is_closed(triangles: NDArray[np.integer]) -> bool:
    """True where every directed edge appears once and so does its reverse: watertight."""
    directed = half_edges(triangles.astype(np.int64))
    size = int(triangles.max()) + 1
    there = np.sort(directed[:, 0] * size + directed[:, 1])
    back = np.sort(directed[:, 1] * size + directed[:, 0])
    return bool((np.diff(there) > 0).all() and np.array_equal(there, back))


@dataclass(frozen=True)
class _Solid:
    """The solid `squared_height(x, y) >= z^2`; its boundary at z = 0 is the outline."""

    distance: Field
    squared_height: Field
    slope: Field

    @classmethod
    def from_alpha(cls, alpha: Field) -> _Solid:
        """Blend the height of the inside with a straight slope through the outline.

        Interpolated heights are not quite zero on the outline; within four pixels of it the field
        is slope x distance, with the slope that the inside has at a depth of two to seven pixels.
        """
        distance = signed_distance(alpha)
        inner = cv2.GaussianBlur(_squared_height(alpha), (0, 0), 1.5)
        band = ((distance > 2) & (distance < 7)).astype(np.float32)
        weight = cv2.GaussianBlur(band, (0, 0), 6)
        steep = cv2.GaussianBlur(inner / np.maximum(distance, 1) * band, (0, 0), 6)
        slope = np.maximum(steep / np.maximum(weight, 1e-6), _LEAST_SLOPE)
        slope = np.where(weight < 1e-3, 2 * _LEAST_SLOPE, slope)  # thinner than the band
        blend = np.clip(distance / 4, 0, 1)
        mixed = blend * inner + (1 - blend) * slope * distance
        inside = np.maximum(mixed, np.maximum(distance, 0) / 4)
        field = np.where(distance > 0, inside, slope * distance).astype(np.float32)
        return cls(distance, field, gradient(field))

    def project(self, points: Points, rounds: int, longest: float = 2.0) -> Points:
        """Newton steps of `points` `(N, 3)` along the gradient onto the surface."""
        for _ in range(rounds):
            flat = points[:, :2]
            slope = np.hstack([sample_field(self.slope, flat), -2 * points[:, 2:]])
            excess = sample_field(self.squared_height, flat) - points[:, 2] ** 2
            step = (excess / np.maximum((slope**2).sum(1), 1e-3))[:, None] * slope
            length = np.linalg.norm(step, axis=1, keepdims=True)
            points = points - step * np.minimum(1, longest / np.maximum(length, 1e-9))
        return points


def _squared_height(alpha: Field) -> Field:
    """Squared half thickness in square pixels, solved at half the size, smooth inside."""
    half = cv2.resize(alpha, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    distance = signed_distance(half)
    inside = distance > 0
    soft = _poisson(inside)
    balls = np.maximum(_medial_balls(distance), 0)
    width = max(1.0, 0.06 * float(distance.max()))  # smooths the creases between balls
    weight = inside.astype(np.float32)
    weights = np.maximum(cv2.GaussianBlur(weight, (0, 0), width), 1e-3)
    balls = cv2.GaussianBlur(balls * weight, (0, 0), width) / weights
    mean = np.sqrt(soft * np.minimum(balls, 4 * soft)) * weight
    height, width_px = alpha.shape
    out: Field = 4 * cv2.resize(mean, (width_px, height), interpolation=cv2.INTER_LINEAR)
    return np.maximum(out, 0)


def _poisson(inside: NDArray[np.bool_]) -> Field:
    """Solve laplace(u) = -3 inside, u = 0 outside; -4 would make a disk a half ball.

    3 suits the geometric mean with the medial balls better (measured on a real body).
    """
    out = np.zeros(inside.shape, np.float32)
    pixels = np.flatnonzero(inside)
    if not len(pixels):
        return out
    # minus the Laplacian: 4 for a pixel itself, -1 for each of its four neighbours
    columns, rows = (
        sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
        for side in inside.shape[::-1]
    )
    laplacian = sp.kronsum(columns, rows, format="csr")[pixels][:, pixels].tocsc()
    symmetric = {"SymmetricMode": True}
    factor = spla.splu(laplacian, "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=symmetric)
    out[inside] = np.maximum(factor.solve(np.full(len(pixels), 3.0)), 0)
    return out


def _medial_balls(distance: Field) -> Field:
    """max over p of distance(p)^2 - |x - p|^2: the union of all balls that fit inside.

    A distance transform of a sampled function, separable into rows and columns (Felzenszwalb and
    Huttenlocher 2012); balls are small enough to try every offset.
    """
    field = np.where(distance > 0, distance**2, -1e9).astype(np.float32)
    radius = int(np.ceil(max(float(distance.max()), 0)))
    for _ in range(2):
        best = field.copy()
        for offset in range(1, radius + 1):
            fall = np.float32(offset * offset)
            np.maximum(best[:-offset], field[offset:] - fall, out=best[:-offset])
            np.maximum(best[offset:], field[:-offset] - fall, out=best[offset:])
        field = np.ascontiguousarray(best.T)
    return field


def _split_chords(mesh: Mesh) -> Mesh:
    """Halve every inner edge that joins two rim vertices.

    Front and back share the rim, so such an edge would belong to both and to four triangles.
    """
    points, triangles = mesh.points, mesh.triangles
    outer = np.sort(rim_edges(triangles), axis=1)
    every = edges(triangles)
    inner = ~np.isin(every @ [len(points), 1], outer @ [len(points), 1])
    for low, high in every[inner & np.isin(every, outer).all(axis=1)]:
        rows = np.flatnonzero(((triangles == low) | (triangles == high)).sum(axis=1) == 2)
        kept, new = triangles[rows], triangles[rows]
        triangles = triangles.copy()
        triangles[rows] = np.where(kept == low, len(points), kept)
        triangles = np.concatenate([triangles, np.where(new == high, len(points), new)])
        points = np.concatenate([points, (points[[low]] + points[[high]]) / 2])
    return Mesh(points, triangles)


def _join_front_and_back(flat: Mesh, body: _Solid) -> tuple[Mesh, NDArray[np.bool_]]:
    """Front and back with a common rim. Returns the mesh, and which vertices lie on the rim."""
    twin = np.arange(len(flat.points))
    rim = np.isin(twin, rim_edges(flat.triangles))
    inner = np.flatnonzero(~rim)
    twin[inner] = len(twin) + np.arange(len(inner))
    height = np.sqrt(np.maximum(sample_field(body.squared_height, flat.points), 0.05))
    height[rim] = 0
    front = np.column_stack([flat.points, -height])
    back = np.column_stack([flat.points, height])[inner]
    vertices = np.concatenate([front, back]).astype(np.float64)
    triangles = np.concatenate([flat.triangles[:, ::-1], twin[flat.triangles]])
    if volume(vertices, triangles) < 0:
        triangles = triangles[:, ::-1]
    rim = np.r_[rim, np.zeros(len(inner), bool)]
    return Mesh(vertices, np.ascontiguousarray(triangles)), rim


def _relax(mesh: Mesh, rim: NDArray[np.bool_], body: _Solid) -> Mesh:
    """Tangential Laplacian smoothing, for even triangles, with a projection onto the surface.

    The rim stays where it is.
    """
    mean = averaging(mesh.triangles, len(mesh.points))
    around = sum_of_faces(mesh.triangles, len(mesh.points))
    vertices = mesh.points
    for _ in range(_RELAX_ROUNDS):
        normal = around @ face_normals(vertices, mesh.triangles)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
        move = mean @ vertices - vertices
        move -= (move * normal).sum(axis=1, keepdims=True) * normal
        moved = body.project(vertices + 0.5 * move, 1)
        vertices = np.where(rim[:, None], vertices, moved)
    return Mesh(vertices, mesh.triangles)
