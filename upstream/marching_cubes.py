"""Marching cubes as a replacement for diso.DiffDMC: signed distances to a surface.

diso needs nvcc to build and is non-commercial. TripoSG calls it once per job; grid, winding and
units are the same here (triposg/inference_utils.py, flash_extract_geometry, at the pinned commit).
checkout.py registers it; anchor.py reads why it failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MarchingCubes:
    """Drop-in for diso.DiffDMC as TripoSG calls it: a (X, Y, Z) tensor in, tensors out.

    Cells with a value that is not finite are skipped: the octree decoder leaves NaN far from the
    surface. Vertices are in units of grid cells.
    """

    def __init__(self, dtype: Any = None) -> None:
        del dtype  # distances are read as float32

    def to(self, device: Any) -> MarchingCubes:
        """Like diso's module; the work is always done on the CPU."""
        del device
        return self

    def __call__(
        self, sdf: Any, deform: Any = None, return_quads: bool = False, normalize: bool = True
    ) -> tuple[Any, Any]:
        """Raises ValueError if no surface crosses the grid, or for options TripoSG does not use."""
        import torch

        if deform is not None or return_quads or normalize:
            raise ValueError("marching cubes can neither deform nor scale the grid, nor make quads")
        vertices, faces = extract_surface(sdf.detach().float().cpu().numpy())
        # TripoSG reverses every face after this call, since diso's winding is the opposite one
        return torch.from_numpy(vertices), torch.from_numpy(np.ascontiguousarray(faces[:, ::-1]))


def extract_surface(grid: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices (V, 3) in grid cells and faces (F, 3) wound outwards, for distances negative inside.

    Everything beyond the grid counts as outside, as in diso: a shape that reaches the border is
    closed there. Only cells with eight finite corners are used. Raises ValueError if the surface
    crosses none.
    """
    from skimage.measure import marching_cubes

    finite = np.isfinite(grid)
    hits = [np.flatnonzero(finite.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    if hits[0].size == 0:
        raise ValueError("the grid holds no finite value")
    window = tuple(slice(hit[0], hit[-1] + 1) for hit in hits)
    beyond = [
        (int(hit[0] == 0), int(hit[-1] == size - 1))
        for hit, size in zip(hits, grid.shape, strict=True)
    ]
    grid = np.pad(grid[window], beyond, constant_values=np.float32(1.0))
    finite = np.isfinite(grid)
    if min(grid.shape) < 2:
        raise ValueError("no surface crosses the grid")
    filled = np.where(finite, grid, np.float32(1.0))
    vertices, faces, _, _ = marching_cubes(filled, 0.0, mask=_whole_cells(finite))
    low = np.array([hit[0] - before for hit, (before, _) in zip(hits, beyond, strict=True)])
    return (vertices + low).astype(np.float32), np.ascontiguousarray(faces).astype(np.int64)


@contextmanager
def recorded_failures() -> Iterator[list[Exception]]:
    """Inside the block the list gets the exceptions of TripoSG's surface extraction.

    TripoSG prints and drops them, whether they are of these marching cubes or of torch before them.
    """
    from triposg import inference_utils

    failures: list[Exception] = []

    def keep(*printed: object) -> None:
        failures.extend(value for value in printed if isinstance(value, Exception))

    inference_utils.print = keep
    try:
        yield failures
    finally:
        del inference_utils.print


def _whole_cells(finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """skimage's mask: entry (i+1, j+1, k+1) stands for the cell between (i, j, k) and there."""
    whole: NDArray[np.bool_] = finite.copy()
    for axis in range(3):
        along = np.moveaxis(whole, axis, 0)  # a view
        along[1:] &= along[:-1].copy()
    return whole
