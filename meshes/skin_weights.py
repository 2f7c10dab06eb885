"""How much each bone moves each vertex: weights for given motions of bones. Used by skinning.py.

Method: Le and Deng, Smooth skinning decomposition with rigid bones (2012), section 4.2: for each
vertex a least-squares problem over convex weights, of which at most four are not 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from meshes.skin import FULL_WEIGHT, INFLUENCES

CANDIDATES = 8
"""Bones that are tried for a vertex: those that alone come closest to its path."""
_RIDGE = 1e-6
"""Of the mean error: makes weights unique where bones move alike."""
_LEAST = 1e-13
"""A squared error, summed over time, that is nothing: rounding makes as much."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """For each of V vertices four bones `joints` `(V, 4)` and their `shares` `(V, 4)`, which sum
    to 1, largest first.
    """

    joints: NDArray[np.int64]
    shares: Floats

    def matrix(self, rest: Floats, bones: int) -> csr_matrix:
        """`(V, 4 B)`: times the motions `(4 B, 3 T)` of bones it gives the vertices' paths."""
        points = homogeneous(rest)
        columns = 4 * self.joints[:, :, None] + np.arange(4)
        values = self.shares[:, :, None] * points[:, None, :]
        rows = np.arange(len(rest) + 1) * 4 * INFLUENCES
        shape = (len(rest), 4 * bones)
        return csr_matrix((values.ravel(), columns.ravel(), rows), shape)

    def dense(self, bones: int) -> Floats:
        """`(V, B)`."""
        dense = np.zeros((len(self.joints), bones))
        np.add.at(dense, (np.arange(len(dense))[:, None], self.joints), self.shares)
        return dense

    def quantised(self) -> Weights:
        """With shares that are multiples of 1/255, as files hold them, and still sum to 1."""
        scaled = self.shares * FULL_WEIGHT
        whole = np.floor(scaled)
        missing = np.rint(FULL_WEIGHT - whole.sum(axis=1)).astype(int)
        # the largest remainders are rounded up
        rank = np.argsort(np.argsort(whole - scaled, axis=1, kind="stable"), axis=1)
        shares = (whole + (rank < missing[:, None])) / FULL_WEIGHT
        return Weights(np.where(shares > 0, self.joints, 0), shares)


def homogeneous(points: Floats) -> Floats:
    """`(V, 3)` to `(V, 4)` with ones."""
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)


def solve_weights(rest: Floats, paths: Floats, motions: Floats) -> Weights:
    """The weights with which bones of `motions` `(B, 4, T, 3)` move `rest` `(V, 3)` closest to
    `paths` `(V, T, 3)`.
    """
    points, bones = homogeneous(rest), len(motions)
    flat, wanted = motions.reshape(4 * bones, -1), paths.reshape(len(paths), -1)
    # errors of bones from products of sums over time, which take no memory for each timestep:
    # |own path - path|^2 = |own path|^2 - 2 own path . path + |path|^2
    products = (flat @ flat.T).reshape(bones, 4, bones, 4).transpose(0, 2, 1, 3)
    products = products.reshape(bones, bones, 16)
    squares = (points[:, :, None] * points[:, None, :]).reshape(-1, 16)
    to_path = np.einsum("vbi,vi->vb", (wanted @ flat.T).reshape(-1, bones, 4), points)
    length = np.einsum("vi,vi->v", wanted, wanted)
    every = np.arange(bones)
    errors = squares @ products[every, every].T - 2 * to_path + length[:, None]
    count = min(CANDIDATES, bones)
    chosen = np.argpartition(errors, count - 1, axis=1)[:, :count]

    own = np.take_along_axis(to_path, chosen, axis=1)
    gram = (products[chosen[:, :, None], chosen[:, None, :]] @ squares[:, None, :, None])[..., 0]
    gram += length[:, None, None] - own[:, :, None] - own[:, None, :]
    diagonal = np.arange(count)
    mean = np.abs(gram[:, diagonal, diagonal]).mean(axis=1)
    gram[:, diagonal, diagonal] += (_RIDGE * mean + _LEAST)[:, None]
    shares = _convex(gram)
    order = np.argsort(-shares, axis=1, kind="stable")[:, :INFLUENCES]
    return _padded(np.take_along_axis(chosen, order, 1), np.take_along_axis(shares, order, 1))


def _convex(gram: Floats) -> Floats:
    """Weights `(V, K)` >= 0 with sum 1, at most four of them not 0, of nearly least w . gram w.

    Without bounds the best weights are proportional to gram^-1 1. The most negative weight, else
    the smallest of more than four, is set to 0 and the others are solved again.
    """
    count = gram.shape[1]
    result = np.zeros(gram.shape[:2])
    rows, used = np.arange(len(gram)), np.ones(gram.shape[:2], bool)
    while len(rows):
        both = used[:, :, None] & used[:, None, :]
        system = np.where(both, gram[rows], np.eye(count))
        found = np.linalg.solve(system, used[:, :, None].astype(float))[..., 0]
        found /= found.sum(axis=1, keepdims=True)
        least = np.where(used, found, np.inf).argmin(axis=1)
        few = used.sum(axis=1) <= INFLUENCES
        done = few & (found[np.arange(len(rows)), least] >= 0)
        result[rows[done]] = found[done]
        used[np.arange(len(rows)), least] = False
        rows, used = rows[~done], used[~done]
    return result


def _padded(joints: NDArray[np.int64], shares: Floats) -> Weights:
    """Four bones for each vertex, where there are fewer candidates."""
    missing = ((0, 0), (0, INFLUENCES - joints.shape[1]))
    return Weights(np.pad(joints, missing), np.pad(shares, missing))
