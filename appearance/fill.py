"""Spreads colours over a mesh's surface from where they are known to where they are not.

Colours spread as heat does: along edges, easily around the body, hardly up or down it, so that the
bands that most subjects show from head to foot stay apart. Called by complete.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, dia_array

from appearance import OnProgress

_UPWARD = 0.02
"""How easily colours spread straight up or down, where 1 is how they spread around."""
_PRECISION = 1e-7
_MOST_STEPS = 400
"""Of conjugate gradients: about a millisecond each for 40,000 faces."""
_REPETITIONS = 6
_SMALL = 0.005
"""A difference of colours, 0 to 1, between neighbours that is no border."""

Values = NDArray[np.float64]


def conductances(positions: NDArray[np.float32], faces: NDArray[Any]) -> csr_array:
    """How easily colour flows between vertices `(V, V)`, symmetric. `positions` `(T, V, 3)`."""
    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a, b = ends[ends[:, 0] != ends[:, 1]].T
    along = positions[:, a] - positions[:, b]
    length = np.linalg.norm(along, axis=2)
    rise = (np.abs(along[..., 1]) / np.maximum(length, 1e-9)).mean(axis=0)
    flow = _UPWARD + (1 - rise**2) ** 4
    one_way = coo_array((flow, (a, b)), shape=(positions.shape[1],) * 2)
    return (one_way + one_way.T).tocsr()


def spread(
    flows: csr_array, values: NDArray[Any], weights: NDArray[Any], report: OnProgress
) -> Values:
    """Values `(V, k)` everywhere from values known with weights `(V,)`, 0 where they are not.

    Minimizes the sum of flow * (difference along the edge)^2 + weight * (difference from the known
    value)^2. What is connected to nothing known gets the mean.
    """
    known = values * weights[:, None]
    mean = known.sum(axis=0) / max(weights.sum(), 1e-12)
    return _solved(flows, known, weights, np.repeat(mean[None], len(values), axis=0), report)


def spread_sharply(
    flows: csr_array, values: NDArray[Any], weights: NDArray[Any], report: OnProgress
) -> Values:
    """The same with differences along edges that are not squared: colours keep sharp borders.

    That is total variation, minimized by squares that are weighted anew a few times.
    """
    parts = _REPETITIONS + 1
    found = spread(flows, values, weights, lambda done: report(done / parts))
    edges = flows.tocoo()
    for count in range(1, parts):
        differences = ((found[edges.row] - found[edges.col]) ** 2).sum(axis=1)
        sharp = edges.data * _SMALL / np.sqrt(_SMALL**2 + differences)
        flows = csr_array((sharp, (edges.row, edges.col)), shape=flows.shape)

        def report_part(done: float, count: int = count) -> None:
            report((count + done) / parts)

        found = _solved(flows, values * weights[:, None], weights, found, report_part)
    return found


def _solved(
    flows: csr_array, known: Values, weights: NDArray[Any], start: Values, report: OnProgress
) -> Values:
    """Solve the linear system by conjugate gradients, from `start` `(V, k)`."""
    diagonal = np.asarray(flows.sum(axis=1)).ravel() + weights
    diagonal[diagonal == 0] = 1
    matrix = (dia_array((diagonal[None], 0), shape=flows.shape) - flows).tocsr()
    solved: Values = start.copy()
    residual = known - matrix @ solved
    scaled = residual / diagonal[:, None]
    step = scaled.copy()
    energy = (residual * scaled).sum(axis=0)
    enough = _PRECISION**2 * np.maximum((known**2 / diagonal[:, None]).sum(axis=0), 1e-20)
    for count in range(_MOST_STEPS):
        report(count / _MOST_STEPS)
        if (energy <= enough).all():
            break
        moved = matrix @ step
        length = energy / np.maximum((step * moved).sum(axis=0), 1e-30)
        solved += length * step
        residual -= length * moved
        scaled = residual / diagonal[:, None]
        before, energy = energy, (residual * scaled).sum(axis=0)
        step = scaled + energy / np.maximum(before, 1e-30) * step
    return solved
