"""Finds motions of bones on some of a mesh's vertices, the samples: skinning.py does the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from meshes.skin_motion import refined_motions, rigid_motion
from meshes.skin_weights import solve_weights
from meshes.vertex_paths import Floats, VertexPaths

SAMPLES = 1500
ROUNDS = 4
"""Weights and motions in turn, after bones were added. More bones gain more than more rounds."""
HARD = 100
"""So many of the worst vertices become samples, if the samples' bones do not suit all vertices."""
_PEAK = 1 / 50
"""A vertex's largest squared error counts as much for new bones as 50 times the mean: about the
ratio of their limits.
"""
_NEIGHBOURHOOD, _LEAST_NEIGHBOURS = 4, 4
"""A new bone is fitted to a quarter of the samples that a bone has on average, at least to four."""
_UNUSED = 1e-3
"""The sum of a bone's weights, in vertices, up to which it is dropped."""


class SkinSamples:
    """The distinct vertices `rows` `(n,)` of `paths`."""

    def __init__(self, paths: VertexPaths, rows: NDArray[np.intp]) -> None:
        self._all, self._rows = paths, rows
        self._rest, self._paths = paths.rest[rows], paths.of(rows)

    def with_hard_ones(self, errors: Floats) -> SkinSamples:
        """With the vertices whose error, of errors `(N,)` of all distinct vertices, is largest."""
        hard = np.argsort(-errors, kind="stable")[:HARD]
        return SkinSamples(self._all, np.union1d(self._rows, hard))

    def more_bones(self, motions: Floats, count: int) -> Floats:
        """`count` motions: those given, and new ones where the error is largest. Each new bone
        moves as the worst vertex and those whose paths are most like its own.
        """
        squares = self.errors(motions) ** 2
        score = squares.mean(axis=1) + _PEAK * squares.max(axis=1)
        near = max(_LEAST_NEIGHBOURS, len(score) // (_NEIGHBOURHOOD * count))
        flat = self._paths.reshape(len(score), -1)
        found = [*motions]
        while len(found) < count and (score.max() > 0 or not found):
            apart = ((flat - flat[score.argmax()]) ** 2).sum(axis=1)
            part = np.argsort(apart, kind="stable")[:near]
            found.append(rigid_motion(self._rest[part], self._paths[part]))
            score[part] = 0
        return np.stack(found)

    def fit(self, motions: Floats, on_progress: Callable[[float], None]) -> Floats:
        """Motions that fit better, less those of bones that move nothing."""
        for k in range(ROUNDS):
            weights = solve_weights(self._rest, self._paths, motions)
            matrix = weights.matrix(self._rest, len(motions))
            normal = (matrix.T @ matrix).toarray()
            target = matrix.T @ self._paths.reshape(len(self._rest), -1)
            is_used = weights.dense(len(motions)).sum(axis=0) > _UNUSED
            motions = refined_motions(motions, normal, target)[is_used]
            on_progress((k + 1) / ROUNDS)
        return motions

    def errors(self, motions: Floats) -> Floats:
        """Distances `(n, T)` from the paths with the best weights; from the middle if no bones."""
        moved = np.zeros(self._paths.shape)
        if len(motions):
            weights = solve_weights(self._rest, self._paths, motions)
            flat = motions.reshape(4 * len(motions), -1)
            moved = (weights.matrix(self._rest, len(motions)) @ flat).reshape(moved.shape)
        return np.asarray(np.linalg.norm(moved - self._paths, axis=2))
