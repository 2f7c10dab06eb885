"""How bones move: rigid motions that fit the paths of vertices. Used by skinning.py.

A motion is an array `(4, T, 3)`: for each timestep three rows of the transposed rotation and one
with the shift, so that (x, y, z, 1) times it is the path of a point that moves with the bone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_KEPT = 1e-3
"""How much the rotation that a bone has counts against the vertices: it decides where they do not,
as on a flat or thin part."""
_SWEEPS = 3


def rigid_motion(rest: Floats, paths: Floats) -> Floats:
    """The motion `(4, T, 3)` that moves `rest` `(V, 3)` closest to `paths` `(V, T, 3)`: Kabsch's
    solution by singular values (1976).
    """
    middle, path = rest.mean(axis=0), paths.mean(axis=0)
    turns = nearest_rotations(np.einsum("vti,vj->tij", paths - path, rest - middle))
    return joined(turns, path - turns @ middle)


def joined(turns: Floats, shifts: Floats) -> Floats:
    """Rotations `(T, 3, 3)` and shifts `(T, 3)` as a motion."""
    return np.concatenate([turns.transpose(2, 0, 1), shifts[None]])


def nearest_rotations(matrices: Floats) -> Floats:
    """The rotations closest to matrices `(..., 3, 3)`."""
    left, _, right = np.linalg.svd(matrices)
    left[..., 2] *= np.where(np.linalg.det(left @ right) < 0, -1.0, 1.0)[..., None]
    return np.asarray(left @ right)


def refined_motions(motions: Floats, normal: Floats, target: Floats) -> Floats:
    """Motions `(B, 4, T, 3)` that fit better, for fixed weights: one bone after the other, the
    others being fixed (Le and Deng 2012, section 4.3).

    With the matrix A of Weights.matrix and the paths Q `(V, 3 T)` of the vertices, `normal` is
    A^T A `(4 B, 4 B)` and `target` A^T Q `(4 B, 3 T)`.
    """
    bones, steps = len(motions), motions.shape[2]
    flat = motions.reshape(4 * bones, -1).copy()
    for _ in range(_SWEEPS):
        for bone in range(bones):
            own = slice(4 * bone, 4 * bone + 4)
            mass = normal[own, own]
            if mass[3, 3] < 1e-12:
                continue  # it moves nothing
            # what this bone must explain: weighted sums of x, y, z, 1 times the rest of the paths
            left = target[own] - normal[own] @ flat + mass @ flat[own]
            middle = mass[:3, 3] / mass[3, 3]
            moments = (left[:3] - middle[:, None] * left[3]).reshape(3, steps, 3)
            spread = np.trace(mass[:3, :3]) - mass[3, 3] * middle @ middle
            before = flat[own].reshape(4, steps, 3)[:3]
            kept = max(_KEPT * spread, 1e-12)
            turns = nearest_rotations((moments + kept * before).transpose(1, 2, 0))
            path = left[3].reshape(steps, 3) / mass[3, 3]
            flat[own] = joined(turns, path - turns @ middle).reshape(4, -1)
    return np.asarray(flat.reshape(motions.shape))
