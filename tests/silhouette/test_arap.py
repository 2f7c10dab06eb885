"""ARAP keeps shapes: a rigid motion is exact, and pulled nodes reach their targets."""

from __future__ import annotations

import numpy as np
import pytest

from silhouette.arap import Arap, Pull, Rest
from silhouette.outline import signed_distance
from silhouette.triangulation import Mesh, triangulate


@pytest.fixture(scope="module")
def bar() -> Mesh:
    alpha = np.zeros((64, 160), np.float32)
    alpha[24:40, 10:150] = 1
    return triangulate(signed_distance(alpha), 72)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    out: np.ndarray = (points - (80, 32)) @ np.array([[c, s], [-s, c]]) + (90, 40)
    return out


def test_few_pulls_suffice_for_a_rigid_motion(bar: Mesh) -> None:
    arap = Arap(bar.triangles, len(bar.points))
    target = _turned(bar.points, 0.4)
    ends = np.flatnonzero((bar.points[:, 0] < 20) | (bar.points[:, 0] > 140))
    pull = Pull(ends, target[ends], np.full(len(ends), 10.0))
    points = arap.solve(bar.points, [pull], [Rest(bar.points, 1.0)], 1.0, 200)
    assert np.abs(points - target).max() < 0.5


def test_without_pulls_a_shape_stays(bar: Mesh) -> None:
    arap = Arap(bar.triangles, len(bar.points))
    points = arap.solve(bar.points, [], [Rest(bar.points, 1.0)], 1.0, 3)
    assert np.abs(points - bar.points).max() < 1e-6


def test_two_rest_shapes_are_averaged(bar: Mesh) -> None:
    arap = Arap(bar.triangles, len(bar.points))
    longer = bar.points * (1.2, 1.0)
    centre = np.array([np.argmin(np.abs(bar.points - (80, 32)).sum(axis=1))])
    pull = Pull(centre, bar.points[centre], np.ones(1))
    rests = [Rest(bar.points, 1.0), Rest(longer, 1.0)]
    points = arap.solve(bar.points, [pull], rests, 1.0, 50)
    length = np.ptp(points[:, 0]) / np.ptp(bar.points[:, 0])
    assert 1.02 < length < 1.18
