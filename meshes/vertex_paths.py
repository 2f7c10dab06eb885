"""The paths of a sequence's vertices, as skinning.py needs them: distinct, of size 1, in parts.

Only one part at a time is held in float64: 121 timesteps of 40,000 vertices are 116 MB.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from meshes.normals import weld_paths

Floats = NDArray[np.float64]

PART = 1000
"""Vertices in a part: some 20 ms of work, after which a job can be cancelled."""
_SPREAD_FROM = 20_000
"""The samples come from about so many vertices: choosing them takes time for each pair."""


class VertexPaths:
    """The N distinct paths among the vertices `(T, V, 3)` of a sequence.

    Vertices with the same path get the same weights, so that a texture's seams stay closed: `index`
    `(V,)` has the number of each vertex's path. `rest` `(N, 3)` is timestep 0, moved by `-middle`
    and divided by `size`: the diagonal of timestep 0's bounding box, so that errors are fractions
    of it; if that is 0, the largest coordinate, else 1.
    """

    def __init__(self, vertices: NDArray[np.float32]) -> None:
        first = vertices[0].astype(np.float64)
        low, high = first.min(axis=0), first.max(axis=0)
        self.middle = (low + high) / 2
        self.size = float(np.linalg.norm(high - low)) or float(np.abs(vertices).max()) or 1.0
        self.index = weld_paths(vertices)
        self._vertices = vertices
        self.first = np.unique(self.index, return_index=True)[1]
        self.rest = (first[self.first] - self.middle) / self.size

    def of(self, rows: NDArray[np.intp]) -> Floats:
        """The paths `(n, T, 3)` of those distinct vertices."""
        chosen = self._vertices[:, self.first[rows]].transpose(1, 0, 2)
        return np.asarray((chosen - self.middle) / self.size)

    def parts(self) -> Iterator[NDArray[np.intp]]:
        """The numbers of all distinct vertices, `PART` at a time."""
        for start in range(0, len(self.rest), PART):
            yield np.arange(start, min(start + PART, len(self.rest)))

    def spread(self, count: int) -> NDArray[np.intp]:
        """`count` distinct vertices, or all, that cover timestep 0 evenly: each is the farthest
        from those before it.
        """
        step = -(-len(self.rest) // _SPREAD_FROM)
        points = self.rest[::step]
        length = np.einsum("vi,vi->v", points, points)
        chosen = np.zeros(min(count, len(points)), np.intp)
        chosen[0] = length.argmax()
        distance = np.full(len(points), np.inf)
        for k, last in enumerate(chosen[:-1]):
            to_last = length - 2 * points @ points[last] + length[last]
            np.minimum(distance, to_last, out=distance)
            chosen[k + 1] = distance.argmax()
        return np.unique(chosen) * step
