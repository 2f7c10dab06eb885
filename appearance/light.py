"""Estimates the light that the video's colours hold, so that colours can be moved over the surface.

A colour that moves from a lit side to a dark one must lose that light on its way. Called by
bake.py before complete.py fills what no frame shows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_COLORS = 4
_REPETITIONS = 12
_SAMPLES = 8000
_LEAST = 200
_ALIKE = 0.08
"""Logarithms of a colour may differ so much from one of the surface's own before it counts less."""
_DARK = 0.03
"""Added to values 0 to 1, so that their logarithms stay finite."""
_FROM_ABOVE = np.array([0.0, 0.25, 0.0])
"""The light if the colours do not tell: most comes from above."""
_BELIEF = 0.02
"""How much that counts, where 1 is normals that point everywhere."""
_STRONGEST = 0.5
"""Length of the gradient: the lit side is at most exp(1), 2.7 times, as bright as the dark one."""

Values = NDArray[np.float64]


def brightness(gradient: Values, normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Factors `(N, 1)` that light makes of the colours of surfaces with unit normals `(N, 3)`."""
    return np.asarray(np.exp(normals @ gradient.astype(np.float32))[:, None], np.float32)


def estimate_light(colors: NDArray[np.float32], normals: NDArray[np.float32]) -> Values:
    """The light on colours `(N, 3)`, 0 to 1, of surfaces with unit normals `(N, 3)`.

    It is `gradient` `(3,)`: a surface with normal n is brighter by exp(n @ gradient).
    The surface is taken to have a few colours of its own. In turn each value is given to the
    nearest of them, and the light is fitted to how the values of each change with the normal.
    """
    if len(colors) < _LEAST:
        return np.zeros(3)
    chosen = slice(None, None, -(-len(colors) // _SAMPLES))
    seen, facing = np.log(colors[chosen].astype(float) + _DARK), normals[chosen].astype(float)
    gradient: Values = np.zeros(3)
    own = _spread_out(seen)
    for _ in range(_REPETITIONS):
        without = seen - (facing @ gradient)[:, None]
        distances = ((without[:, None] - own) ** 2).sum(axis=2)
        nearest = distances.argmin(axis=1)
        weights = 1 / (1 + distances.min(axis=1) / _ALIKE**2) ** 2
        matrix = _BELIEF * len(seen) * np.eye(3)
        wanted = matrix @ _FROM_ABOVE
        for color in range(_COLORS):
            is_own = nearest == color
            some = weights[is_own]
            if some.sum() < 1:
                continue
            own[color] = np.average(without[is_own], axis=0, weights=some)
            values = seen[is_own].mean(axis=1)
            turned = facing[is_own] - np.average(facing[is_own], axis=0, weights=some)
            matrix += (turned * some[:, None]).T @ turned
            wanted += (turned * some[:, None]).T @ (values - np.average(values, weights=some))
        gradient = np.linalg.solve(matrix, wanted)
    strength = float(np.linalg.norm(gradient))
    return gradient * (min(strength, _STRONGEST) / max(strength, 1e-9))


def _spread_out(values: Values) -> Values:
    """A few of the values `(N, 3)`, each far from those before, but no rare ones."""
    chosen = [np.median(values, axis=0)]
    for _ in range(_COLORS - 1):
        distances = np.min([((values - other) ** 2).sum(axis=1) for other in chosen], axis=0)
        common = np.minimum(distances, np.quantile(distances, 0.98))
        chosen.append(values[np.argmax(common)])
    return np.array(chosen)
