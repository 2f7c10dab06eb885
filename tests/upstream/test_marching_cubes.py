"""The replacement for diso, on known shapes: complete grids, and bands with NaN around them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from upstream.marching_cubes import extract_surface

if importlib.util.find_spec("skimage") is None:
    pytest.skip(
        "scikit-image is not installed: requirements/dev.txt has it", allow_module_level=True
    )

Field = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def sphere(points: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.linalg.norm(points, axis=-1) - 0.6, np.float32)


def torus(points: NDArray[np.float32]) -> NDArray[np.float32]:
    ring = np.hypot(points[..., 0], points[..., 2]) - 0.6
    return np.asarray(np.hypot(ring, points[..., 1]) - 0.22, np.float32)


def two_balls(points: NDArray[np.float32]) -> NDArray[np.float32]:
    away = np.array([0.5, 0, 0], np.float32)
    apart = [np.linalg.norm(points + side * away, axis=-1) for side in (-1, 1)]
    return np.asarray(np.minimum(*apart) - 0.35, np.float32)


@pytest.mark.parametrize("band", [False, True])
@pytest.mark.parametrize(
    ("field", "euler", "parts"), [(sphere, 2, 1), (torus, 0, 1), (two_balls, 4, 2)]
)
def test_known_shapes_are_closed_complete_and_in_place(
    field: Field, euler: int, parts: int, band: bool
) -> None:
    import trimesh

    count = 96
    axis = np.linspace(-1, 1, count, dtype=np.float32)
    grid = field(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1))
    if band:  # the octree decoder knows values near the surface only
        grid = np.where(np.abs(grid) < 0.08, grid, np.float32("nan"))
    cells, faces = extract_surface(grid)
    mesh = trimesh.Trimesh(cells / (count - 1) * 2 - 1, faces, process=False)
    assert mesh.is_watertight
    assert mesh.euler_number == euler
    assert mesh.body_count == parts
    assert mesh.volume > 0  # wound outwards
    assert np.abs(field(mesh.vertices.astype(np.float32))).max() < 1e-3


def test_a_grid_that_no_surface_crosses_is_an_error() -> None:
    with pytest.raises(ValueError):
        extract_surface(np.ones((8, 8, 8), np.float32))
    with pytest.raises(ValueError, match="finite"):
        extract_surface(np.full((8, 8, 8), np.nan, np.float32))


@pytest.mark.parametrize("band", [False, True])
def test_a_shape_that_reaches_the_border_is_closed_there(band: bool) -> None:
    import trimesh

    count = 64
    axis = np.linspace(-1, 1, count, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
    away = np.array([0.7, 0, -0.8], np.float32)
    grid = np.asarray(np.linalg.norm(points - away, axis=-1) - 0.6, np.float32)
    if band:
        grid = np.where(np.abs(grid) < 0.5, grid, np.float32("nan"))
    cells, faces = extract_surface(grid)
    mesh = trimesh.Trimesh(cells / (count - 1) * 2 - 1, faces, process=False)
    assert mesh.is_watertight and mesh.euler_number == 2
    assert mesh.volume > 0
    inside = mesh.vertices[np.abs(mesh.vertices).max(axis=1) < 0.99]
    assert np.abs(np.linalg.norm(inside - away, axis=1) - 0.6).max() < 1e-3
    assert np.abs(mesh.vertices).max() < 1 + 2 / count
