"""What another program shows of one of our files, and how far that is from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class SeenMesh:
    """Vertices float `(K, V, 3)` at K times, the first of them 0 s, and their uv `(V, 2)`.

    Without `uv` the vertices are in the file's order.
    """

    vertices: NDArray[np.float64]
    uv: NDArray[np.float64] | None = None

    def distances(self, truth: NDArray[np.float64], uv: NDArray[np.float32]) -> NDArray[np.float64]:
        """`(K, V)` from the vertices `(K, V, 3)` with these uv `(V, 2)` at the same times.

        Programs that reorder vertices keep their places at 0 s and on the texture. Raises
        ValueError if there are other vertices.
        """
        if self.vertices.shape != truth.shape:
            raise ValueError(f"{self.vertices.shape[1]} vertices are shown, not {truth.shape[1]}")
        order = np.arange(truth.shape[1])
        if self.uv is not None:
            places = cKDTree(np.concatenate([truth[0], uv], axis=1))
            away, order = places.query(np.concatenate([self.vertices[0], self.uv], axis=1))
            if away.max() > 1e-3:
                raise ValueError("a vertex is shown where the file has none")
        return np.asarray(np.linalg.norm(self.vertices - truth[:, order], axis=2))
