"""Weights and motions of bones as a Skin: pivots, a tree, bytes, float32. Used by skinning.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from meshes.skin import FULL_WEIGHT, Skin, with_continuous_signs
from meshes.skin_weights import Weights
from meshes.vertex_paths import Floats, VertexPaths


def as_skin(weights: Weights, motions: Floats, paths: VertexPaths) -> Skin:
    """The skin of quantised weights of the distinct vertices, and motions `(B, 4, T, 3)`.

    A bone's pivot is the middle of what it moves, weighted. Bones that move nothing are left out.
    """
    dense = weights.dense(len(motions))
    order, parents = _tree(dense.T @ dense)
    dense, motions = dense[:, order], motions[order]
    pivots = dense.T @ paths.rest / dense.sum(axis=0)[:, None]
    turns = motions[:, :3].transpose(2, 0, 3, 1)  # (T, B, 3, 3)
    positions = np.einsum("tbij,bj->tbi", turns, pivots) + motions[:, 3].transpose(1, 0, 2)
    rotations = Rotation.from_matrix(turns.reshape(-1, 3, 3)).as_quat().reshape(*turns.shape[:2], 4)
    # timestep 0 is the rest pose: exact, so that the first frame is
    rotations[0], positions[0] = (0, 0, 0, 1), pivots

    number = np.zeros(int(weights.joints.max()) + 1, np.uint8)
    number[order] = np.arange(len(order))
    joints = np.where(weights.shares > 0, number[weights.joints], 0)
    return Skin(
        joints[paths.index].astype(np.uint8),
        np.rint(weights.shares * FULL_WEIGHT).astype(np.uint8)[paths.index],
        tuple(parents),
        (pivots * paths.size + paths.middle).astype(np.float32),
        with_continuous_signs(rotations),
        (positions * paths.size + paths.middle).astype(np.float32),
    )


def _tree(shared: Floats) -> tuple[NDArray[np.intp], list[int]]:
    """Bones in an order with parents first, and the parent's place in that order or -1.

    Prim's maximum spanning tree of `shared` `(B, B)`, the weight that two bones share on the same
    vertices: bones that move one part together are neighbours. A bone that moves nothing is not in
    it; one that shares nothing with the others has no parent.
    """
    mass = shared.diagonal()
    left = set(np.flatnonzero(mass > 0).tolist())
    order: list[int] = []
    parents: list[int] = []
    while left:
        rest = sorted(left)
        links = shared[np.ix_(rest, order)] if order else np.zeros((len(rest), 1))
        strongest = links.max(axis=1)
        at = int(strongest.argmax())
        if strongest[at] > 0:
            parents.append(int(links[at].argmax()))
        else:
            at = int(mass[rest].argmax())
            parents.append(-1)
        order.append(rest[at])
        left.remove(rest[at])
    return np.array(order), parents
