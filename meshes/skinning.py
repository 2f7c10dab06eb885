"""Finds bones that move a mesh as its vertices move, with an error that is known: `fit_skin`.

The method is the smooth skinning decomposition of Le and Deng (2012): weights for given motions of
bones (skin_weights.py) and motions for given weights (skin_motion.py) in turn, first on samples
(skin_samples.py), then on every vertex. Bones are added where the error is largest (as in 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from meshes.skeleton import as_skin
from meshes.skin import FULL_WEIGHT, Skin
from meshes.skin_motion import refined_motions
from meshes.skin_samples import SAMPLES, SkinSamples
from meshes.skin_weights import Weights, solve_weights
from meshes.vertex_paths import PART, Floats, VertexPaths

BONES = (1, 2, 4, 8, 12, 15, 19, 24, 30, 38, 48, 60)
"""The numbers of bones that are tried until the skin is exact."""
RIGID = 0.1
"""One bone must be exact to this share of the limits: more would stop motion that can be seen."""
EXACT = (0.002, 0.005, 0.015)
"""Rms, 99th percentile and largest error of a skin that looks like the mesh. All three count: with
a small rms alone, hands can be cut off.
"""
USABLE_RMS, USABLE_LARGEST = 0.003, 0.03
_ROUNDS = 2
"""Weights and motions in turn, on every vertex."""

Progress = Callable[[float], None]


@dataclass(frozen=True)
class FittedSkin:
    """A skin, and its error over every vertex and timestep, as it is written.

    In fractions of the diagonal of timestep 0's bounding box: the root of the mean square, the 99th
    percentile, and the largest distance between where the skin puts a vertex and where it is.
    """

    skin: Skin
    rms: float
    p99: float
    largest: float

    @property
    def is_exact(self) -> bool:
        """No difference can be seen."""
        return self.excess <= 1

    @property
    def is_usable(self) -> bool:
        """The motion is there, but not all of its details."""
        return self.rms <= USABLE_RMS and self.largest <= USABLE_LARGEST

    @property
    def excess(self) -> float:
        """The error as a multiple of the limits in EXACT."""
        return _excess((self.rms, self.p99, self.largest))


def fit_skin(vertices: NDArray[np.float32], on_progress: Progress) -> FittedSkin:
    """The skin with the fewest bones that is exact, or else the best of up to 60 bones.

    `vertices` `(T, V, 3)` are finite. A clip that is still or rigid has one bone. `on_progress` is
    told the share that is done, at least ten times a second, and may raise. The same vertices give
    the same skin, bit for bit, for a fixed number of BLAS threads.
    """
    paths = VertexPaths(vertices)
    samples = SkinSamples(paths, paths.spread(SAMPLES))
    motions = np.zeros((0, 4, len(vertices), 3))
    best: FittedSkin | None = None
    for level, bones in enumerate(BONES):
        begin, end = (sum(BONES[:done]) / sum(BONES) for done in (level, level + 1))
        middle = (begin + end) / 2
        motions = samples.more_bones(motions, bones)
        motions = samples.fit(motions, _within(on_progress, begin, middle))
        limit = RIGID if bones == 1 else 1.0
        if _excess(_statistics(samples.errors(motions))) > limit and bones < BONES[-1]:
            continue
        weights, motions = _fit_all(paths, motions, _within(on_progress, middle, end))
        skin = as_skin(weights, motions, paths)
        errors = _errors(skin, vertices) / paths.size
        fitted = FittedSkin(skin, *_statistics(errors))
        if best is None or fitted.excess < best.excess:
            best = fitted
        if fitted.excess <= limit:
            break
        samples = samples.with_hard_ones(errors.max(axis=1)[paths.first])
    assert best is not None, "the largest number of bones is fitted to every vertex"
    on_progress(1.0)
    return best


def _within(on_progress: Progress, begin: float, end: float) -> Progress:
    """Reports the share 0 to 1 of a part as a share from `begin` to `end` of the whole."""
    return lambda done: on_progress(begin + (end - begin) * done)


def _fit_all(paths: VertexPaths, motions: Floats, on_progress: Progress) -> tuple[Weights, Floats]:
    """Weights of every distinct vertex, as files hold them, and motions that fit these."""
    bones, steps = len(motions), motions.shape[2]
    parts = list(paths.parts())
    for k in range(_ROUNDS):
        found: list[Weights] = []
        normal, target = np.zeros((4 * bones, 4 * bones)), np.zeros((4 * bones, 3 * steps))
        for rows in parts:
            rest, wanted = paths.rest[rows], paths.of(rows)
            weights = solve_weights(rest, wanted, motions)
            # the last motions are fitted to the weights as files hold them
            weights = weights.quantised() if k == _ROUNDS - 1 else weights
            matrix = weights.matrix(rest, bones)
            normal += (matrix.T @ matrix).toarray()
            target += matrix.T @ wanted.reshape(len(rows), -1)
            found.append(weights)
            on_progress((k + len(found) / len(parts)) / _ROUNDS)
        motions = refined_motions(motions, normal, target)
    joints = np.concatenate([weights.joints for weights in found])
    return Weights(joints, np.concatenate([weights.shares for weights in found])), motions


def _errors(skin: Skin, vertices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Distances `(V, T)` between where the skin puts vertices and where they are; Skin.pose gives
    the same positions, one timestep after the other.
    """
    steps, bones = skin.rotations.shape[:2]
    turns = Rotation.from_quat(skin.rotations.reshape(-1, 4)).as_matrix()
    turns = turns.reshape(steps, bones, 3, 3)
    shifts = skin.positions - np.einsum("tbij,bj->tbi", turns, skin.pivots.astype(np.float64))
    motions = np.concatenate([turns.transpose(1, 3, 0, 2), shifts.transpose(1, 0, 2)[:, None]], 1)
    flat = motions.reshape(4 * bones, -1)
    errors = np.empty((vertices.shape[1], steps), np.float32)
    for start in range(0, len(errors), PART):
        rows = slice(start, start + PART)
        weights = Weights(skin.joints[rows].astype(np.intp), skin.weights[rows] / FULL_WEIGHT)
        moved = weights.matrix(vertices[0, rows].astype(np.float64), bones) @ flat
        wanted = vertices[:, rows].transpose(1, 0, 2)
        errors[rows] = np.linalg.norm(moved.reshape(wanted.shape) - wanted, axis=2)
    return errors


def _statistics(errors: NDArray[np.floating]) -> tuple[float, float, float]:
    """Root of the mean square, 99th percentile, and largest of errors."""
    rms = np.sqrt(np.mean(np.square(errors, dtype=np.float64)))
    return float(rms), float(np.quantile(errors, 0.99)), float(errors.max())


def _excess(statistics: tuple[float, float, float]) -> float:
    """The largest of the three as a multiple of its limit."""
    return max(error / limit for error, limit in zip(statistics, EXACT, strict=True))
