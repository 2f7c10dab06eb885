"""The replacement for diso: the same grid, given on the device and on the host.

A part of the measurement, called by __main__.py. The grid is TripoSG's at octree depth 9, of a
figure, with NaN far from the surface as its octree decoder leaves them.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.actionmesh_gpu.gpu import synchronize
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import figure_distance
from upstream.marching_cubes import MarchingCubes


def measure(part: Part) -> None:
    """Print the table."""
    part.begin("From the grid to the surface", "what", "s", "vertices", "faces", "equal")
    if not part.fits("the surface", 15):
        return
    import torch

    grid = _grid(505 if part.size.on_gpu else 65, part.size.device)
    seconds, vertices, faces = _extract(grid, part.size.device)
    host_s, host_vertices, host_faces = _extract(grid.cpu(), "cpu")
    equal = torch.equal(vertices.cpu(), host_vertices) and torch.equal(faces.cpu(), host_faces)
    counts = f"{len(vertices):,}", f"{len(faces):,}"
    what = f"{len(grid)}^3 cells, on the"
    part.row(f"{what} {'device' if part.size.on_gpu else 'CPU'}", f"{seconds:.2f}", *counts, "")
    part.row(f"{what} host", f"{host_s:.2f}", *counts, "yes" if equal else "NO")


def _grid(side: int, device: str) -> Any:
    """Signed distances (side, side, side) to a figure; NaN beyond three cells from it."""
    import torch

    axis = torch.linspace(-1.005, 1.005, side, device=device)
    x, y, z = axis[:, None, None], axis[None, :, None], axis[None, None, :]
    grid = figure_distance(x, y, z)
    grid[grid.abs() > 3 * 2.01 / side] = float("nan")
    return grid


def _extract(grid: Any, device: str) -> tuple[float, Any, Any]:
    synchronize(device)
    began = time.perf_counter()
    vertices, faces = MarchingCubes()(grid, normalize=False)
    synchronize(device)
    return time.perf_counter() - began, vertices, faces
