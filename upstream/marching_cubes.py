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
    """Drop-in for diso.DiffDMC: a (X, Y, Z) tensor in, vertices and faces as tensors out.

    Cells with a value that is not finite are skipped: the octree decoder leaves NaN far from the
    surface. Vertices are in units of grid cells, or of the grid's extent if `normalize`.
    """

    def __init__(self, dtype: Any = None) -> None:
        self.dtype = dtype

    def to(self, device: Any) -> MarchingCubes:
        """Like diso's module; the work is always done on the CPU."""
        del device
        return self

    def __call__(
        self,
        sdf: Any,
        deform: Any = None,
        return_quads: bool = False,
        normalize: bool = True,
        isovalue: float = 0.0,
    ) -> tuple[Any, Any]:
        """Raises ValueError if no surface crosses the grid, or for `deform` or `return_quads`."""
        import torch

        if deform is not None or return_quads:
            raise ValueError("marching cubes can neither deform the grid nor make quads")
        grid = sdf.detach().float().cpu().numpy()
        vertices, faces = extract_surface(grid, isovalue)
        if normalize:
            vertices = vertices / (np.array(grid.shape, np.float32) - 1)
        # TripoSG reverses every face after this call, since diso's winding is the opposite one
        return torch.from_numpy(vertices), torch.from_numpy(np.ascontiguousarray(faces[:, ::-1]))


def extract_surface(
    grid: NDArray[np.float32], isovalue: float = 0.0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices (V, 3) in grid cells and faces (F, 3) wound outwards, for distances negative inside.

    Only cells with eight finite corners are used. Raises ValueError if the surface crosses none.
    """
    from skimage.measure import marching_cubes

    finite = np.isfinite(grid)
    cells: NDArray[np.bool_] | None = None
    if not finite.all():
        low, high = _bounds_of(finite)
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        grid, finite = grid[window], finite[window]
        grid = np.where(finite, grid, np.float32(1.0))
        cells = _whole_cells(finite)
    else:
        low = np.zeros(3, np.int64)
    if min(grid.shape) < 2:
        raise ValueError("no surface crosses the grid")
    vertices, faces, _, _ = marching_cubes(grid, isovalue, mask=cells)
    vertices = vertices.astype(np.float32) + low.astype(np.float32)
    return vertices, np.ascontiguousarray(faces).astype(np.int64)


class _Recorder:
    """Wraps a DiffDMC class and keeps its exception: TripoSG prints errors and drops them."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self.failure: Exception | None = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        inner = self._make(*args, **options)
        recorder = self

        class Recorded:
            def to(self, device: Any) -> Recorded:
                inner.to(device)
                return self

            def __call__(self, *args: Any, **options: Any) -> Any:
                try:
                    return inner(*args, **options)
                except Exception as exc:
                    recorder.failure = exc
                    raise

        return Recorded()


@contextmanager
def recorded_failures() -> Iterator[_Recorder]:
    """Inside the block, `.failure` is the exception that TripoSG's surface extraction dropped."""
    from triposg import inference_utils

    recorder = _Recorder(inference_utils.DiffDMC)
    original, inference_utils.DiffDMC = inference_utils.DiffDMC, recorder
    try:
        yield recorder
    finally:
        inference_utils.DiffDMC = original


def _bounds_of(finite: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and one-past-last index of finite values along each axis."""
    low, high = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        hit = np.flatnonzero(finite.any(axis=others))
        if len(hit) == 0:
            raise ValueError("the grid holds no finite value")
        low[axis], high[axis] = hit[0], hit[-1] + 1
    return low, high


def _whole_cells(finite: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """skimage's mask: entry (i+1, j+1, k+1) stands for the cell between (i, j, k) and there."""
    whole: NDArray[np.bool_] = finite.copy()
    for axis in range(3):
        ahead = [slice(None)] * 3
        behind = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        previous = whole.copy()
        whole[tuple(ahead)] &= previous[tuple(behind)]
    return whole
