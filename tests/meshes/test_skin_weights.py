"""Weights of bones for a vertex: found again where they are known, and as bytes that sum to 255."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from meshes.skin_motion import joined, nearest_rotations
from meshes.skin_weights import Weights, solve_weights


def motions(bones: int, steps: int, chance: np.random.Generator) -> NDArray[np.float64]:
    turns = nearest_rotations(chance.normal(size=(bones, steps, 3, 3)))
    shifts = chance.normal(size=(bones, steps, 3))
    return np.stack([joined(*of_bone) for of_bone in zip(turns, shifts, strict=True)])


def test_known_weights_are_found_again() -> None:
    chance = np.random.default_rng(0)
    rest, bones = chance.normal(size=(40, 3)), motions(6, 8, chance)
    joints = np.argsort(chance.random((40, 6)), axis=1)[:, :4]
    shares = chance.dirichlet(np.ones(4), 40)
    shares[:20, 2:] = 0
    true = Weights(joints, shares / shares.sum(axis=1, keepdims=True))
    paths = (true.matrix(rest, 6) @ bones.reshape(24, -1)).reshape(40, 8, 3)
    found = solve_weights(rest, paths, bones)
    assert np.abs(found.dense(6) - true.dense(6)).max() < 1e-3


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda found: sum(found) > 0.01))
def test_weights_as_bytes_sum_to_255_and_unused_joints_are_0(found: list[float]) -> None:
    shares = np.array([found]) / sum(found)
    bytes_of = Weights(np.array([[5, 6, 7, 8]]), shares).quantised()
    whole = bytes_of.shares * 255
    assert np.abs(whole - np.rint(whole)).max() < 1e-9 and round(whole.sum()) == 255
    assert np.abs(bytes_of.shares - shares).max() < 1 / 255
    assert (bytes_of.joints[bytes_of.shares == 0] == 0).all()
