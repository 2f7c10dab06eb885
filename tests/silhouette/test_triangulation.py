"""Triangulations are manifold for any outline, and embedded points are reconstructed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from silhouette.outline import signed_distance
from silhouette.triangulation import embed, half_edges, rim_edges, signed_areas, triangulate
from video.fields import Field


def _blobs(seed: int) -> Field:
    """Random disks and lines: holes, necks, touching points."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((128, 128), np.float32)
    for _ in range(12):
        a, b = (tuple(int(v) for v in rng.integers(10, 118, 2)) for _ in range(2))
        if rng.random() < 0.5:
            cv2.circle(picture, a, int(rng.integers(2, 16)), float(rng.random() < 0.8), -1)
        else:
            cv2.line(picture, a, b, 1.0, int(rng.integers(1, 8)))
    return picture


@pytest.mark.parametrize("seed", range(12))
def test_a_mesh_is_manifold_with_one_orientation(seed: int) -> None:
    distance = signed_distance(_blobs(seed))
    mesh = triangulate(distance, 600)
    low_high = np.sort(half_edges(mesh.triangles), axis=1)
    _, uses = np.unique(low_high, axis=0, return_counts=True)
    assert uses.max() <= 2
    directed = half_edges(mesh.triangles)
    assert len(np.unique(directed, axis=0)) == len(directed)
    assert np.bincount(rim_edges(mesh.triangles).ravel()).max() == 2
    areas = signed_areas(mesh.points, mesh.triangles)
    assert areas.min() > 1e-4 * np.median(areas)


def test_a_mesh_covers_the_outline() -> None:
    disk = np.zeros((128, 128), np.float32)
    cv2.circle(disk, (64, 60), 40, 1.0, -1)
    distance = signed_distance(disk)
    mesh = triangulate(distance, 800)
    assert signed_areas(mesh.points, mesh.triangles).sum() == pytest.approx(disk.sum(), rel=0.01)
    assert 600 < len(mesh.points) < 1000


def test_an_empty_outline_gives_an_empty_mesh() -> None:
    distance = signed_distance(np.zeros((64, 64), np.float32))
    assert len(triangulate(distance, 100).triangles) == 0


def test_embedded_points_are_reconstructed() -> None:
    distance = signed_distance(_blobs(3))
    mesh = triangulate(distance, 300)
    points = mesh.points[mesh.triangles].mean(axis=1)
    corners, weights = embed(mesh, points)
    back = np.einsum("nk,nkd->nd", weights, mesh.points[corners])
    assert np.abs(back - points).max() < 1e-9
    assert weights.sum(axis=1) == pytest.approx(1.0)
