"""As-rigid-as-possible (ARAP) deformation of a flat mesh towards target points.

Local/global iteration of Sorkine and Alexa 2007 on a 2-D mesh (Igarashi et al. 2005). In the plane
a rotation is a unit complex number and a similarity any complex number, so points are complex
throughout. Called by tracking.py; uses no images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.linalg import cho_solve_banded, cholesky_banded

from silhouette.triangulation import Triangles, edges, neighbours
from video.fields import Points

Complex = NDArray[np.complex128]

_SCALE_FREEDOM = 0.5
"""0: limbs keep their size (rigid); 1: they may change size at no cost (similar)."""
_SCALE_LIMITS = (0.5, 2.0)
_HOLD = 1e-4
"""Pull of every node towards its position: keeps the system definite without targets."""


class Pull(NamedTuple):
    """Nodes `(K,)` that are pulled to `targets` `(K, 2)`, each with a weight `(K,)`."""

    nodes: NDArray[np.int64]
    targets: Points
    weights: NDArray[np.float64]


class Rest(NamedTuple):
    """A shape `(N, 2)` whose edges should be kept up to local rotation, and how much."""

    points: Points
    weight: float


class Arap:
    """The solver for one mesh: nodes are renumbered once (reverse Cuthill-McKee), so that each
    system is a narrow band and costs a few milliseconds for a thousand nodes."""

    def __init__(self, triangles: Triangles, nodes: int) -> None:
        self.nodes = nodes
        self.adjacency = neighbours(triangles, nodes)
        order = np.zeros(0, np.int64)  # scipy refuses a matrix without rows
        if nodes:
            order = sp.csgraph.reverse_cuthill_mckee(self.adjacency, symmetric_mode=True)
        self._order = order
        self._new_index = np.empty(nodes, np.int64)
        self._new_index[order] = np.arange(nodes)
        self.edges = edges(triangles)
        low, high = np.sort(self._new_index[self.edges], axis=1).T
        self._band = (high - low, low)
        self._width = int((high - low).max(initial=0)) + 1

        # complex from the start: scipy would convert a real matrix in every product
        count = len(self.edges)
        place = self.edges.T.ravel(), np.tile(np.arange(count), 2)
        signs = np.repeat([-1 + 0j, 1], count)
        self._divergence = sp.coo_array((signs, place), shape=(nodes, count)).tocsr()
        self._around = abs(self._divergence).astype(np.complex128)
        self._beside = (0.5 * self.adjacency).astype(np.complex128)

    def solve(
        self,
        points: Points,
        pulls: list[Pull],
        rests: list[Rest],
        stiffness: float | NDArray[np.float64],
        rounds: int,
    ) -> Points:
        """Deform `points` `(N, 2)` to minimise the weighted squared errors of pulls and rests.

        `stiffness` is that of all edges, or one for each. One factorisation serves all `rounds`.
        """
        weights = np.full(len(self.edges), stiffness)
        diagonal = np.full(self.nodes, _HOLD)
        place = _as_complex(points)
        wanted = _HOLD * place
        for pull in pulls:
            target = _as_complex(pull.targets)
            diagonal += np.bincount(pull.nodes, pull.weights, self.nodes)
            wanted = wanted + np.bincount(pull.nodes, pull.weights * target.real, self.nodes)
            wanted = wanted + 1j * np.bincount(pull.nodes, pull.weights * target.imag, self.nodes)
        factor = self._factor(weights * sum(rest.weight for rest in rests), diagonal)
        tail, head = self.edges.T
        spans = [_as_complex(rest.points[head] - rest.points[tail]) for rest in rests]
        sizes = [self._sums_nearby(weights * np.abs(span) ** 2).real for span in spans]
        for _ in range(rounds):
            moved = weights * (place[head] - place[tail])
            ideal = np.zeros(len(self.edges), np.complex128)
            for rest, span, size in zip(rests, spans, sizes, strict=True):
                turn = self._similarities(span, moved, size)
                ideal += (0.5 * rest.weight) * (turn[tail] + turn[head]) * span
            place = self._back_substitute(factor, wanted + self._divergence @ (weights * ideal))
        return place.view(np.float64).reshape(-1, 2)

    def _similarities(self, span: Complex, moved: Complex, size: NDArray[np.float64]) -> Complex:
        """Per node the rotation, with part of the scale, that best maps rest edges to new ones.

        Least squares in the plane: sum of conj(rest) * new over sum of |rest|^2 (`size`).
        """
        carried = self._sums_nearby(np.conj(span) * moved)
        length: NDArray[np.float64] = np.abs(carried)
        scale = np.clip(length / np.maximum(size, 1e-9), *_SCALE_LIMITS) ** _SCALE_FREEDOM
        turn: Complex = np.where(length > 1e-9, carried / np.maximum(length, 1e-9), 1.0 + 0j)
        return turn * scale

    def _sums_nearby(self, values: NDArray[np.inexact]) -> Complex:
        """Per node the sum over its edges `(E,)`, and half the neighbours' sums.

        So rotations vary more smoothly than in the local step of Sorkine and Alexa.
        """
        sums: Complex = self._around @ values
        sums += self._beside @ sums
        return sums

    def _factor(
        self, weights: NDArray[np.float64], diagonal: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Cholesky factor of the graph Laplacian plus `diagonal`, in LAPACK's lower band form."""
        band = np.zeros((self._width, self.nodes))
        band[self._band] = -weights
        band[0] = (diagonal + (self._around @ weights).real)[self._order]
        return np.asarray(cholesky_banded(band, overwrite_ab=True, lower=True, check_finite=False))

    def _back_substitute(self, factor: NDArray[np.float64], right: Complex) -> Complex:
        """Solve for both coordinates at once; the result has the original numbering."""
        columns = np.ascontiguousarray(right[self._order]).view(np.float64).reshape(-1, 2)
        solved = cho_solve_banded((factor, True), columns, check_finite=False)
        return _as_complex(solved[self._new_index])


def _as_complex(points: Points) -> Complex:
    """x + iy of each point; a product with (1, i) would start BLAS's threads."""
    return np.ascontiguousarray(points, np.float64).view(np.complex128)[:, 0]
