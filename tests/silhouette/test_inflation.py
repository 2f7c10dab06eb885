"""Inflated outlines are closed meshes of the expected thickness."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from silhouette.inflation import inflate, is_closed, volume
from video.fields import Field


def _disk(radius: float, side: int = 192) -> Field:
    y, x = np.mgrid[:side, :side]
    distance = radius - np.hypot(x - side / 2, y - side / 2)
    out: Field = np.clip(distance + 0.5, 0, 1).astype(np.float32)
    return out


def test_a_disk_becomes_nearly_a_ball() -> None:
    shape = inflate(_disk(60), 4000)
    assert shape is not None
    assert is_closed(shape.triangles)
    depth = np.ptp(shape.points[:, 2]) / 2
    assert 0.75 * 60 < depth < 1.1 * 60
    ball = 4 / 3 * np.pi * 60**3
    assert 0.7 * ball < volume(shape.points, shape.triangles) < 1.1 * ball


def test_a_band_becomes_nearly_a_cylinder() -> None:
    band = np.zeros((256, 256), np.float32)
    cv2.rectangle(band, (20, 108), (235, 147), 1.0, -1)
    shape = inflate(band, 4000)
    assert shape is not None
    middle = np.abs(shape.points[:, 0] - 128) < 40
    depth = np.ptp(shape.points[middle, 2]) / 2
    assert 0.75 * 20 < depth < 1.25 * 20


def test_a_ring_keeps_its_hole() -> None:
    shape = inflate(np.clip(_disk(70) - _disk(30), 0, 1), 4000)
    assert shape is not None
    assert is_closed(shape.triangles)
    edges = 3 * len(shape.triangles) // 2
    assert len(shape.points) - edges + len(shape.triangles) == 0  # Euler: a torus


def test_the_back_mirrors_the_front() -> None:
    shape = inflate(_disk(50), 2000)
    assert shape is not None
    assert shape.points[:, 2].min() == pytest.approx(-shape.points[:, 2].max(), rel=0.02)


@pytest.mark.parametrize("dots", [0, 1, 3])
def test_a_few_pixels_give_no_mesh_or_a_closed_one(dots: int) -> None:
    alpha = np.zeros((96, 96), np.float32)
    alpha[20 : 20 + 10 * dots : 10, 30] = 1
    shape = inflate(alpha, 1000)
    assert shape is None or is_closed(shape.triangles)


@pytest.mark.parametrize("seed", range(6))
def test_any_outline_gives_a_closed_mesh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha = np.zeros((160, 160), np.float32)
    for _ in range(9):
        a, b = (tuple(int(v) for v in rng.integers(12, 148, 2)) for _ in range(2))
        cv2.line(alpha, a, b, 1.0, int(rng.integers(1, 9)))
    shape = inflate(alpha, 3000)
    assert shape is not None
    assert is_closed(shape.triangles)
    assert volume(shape.points, shape.triangles) > 0
