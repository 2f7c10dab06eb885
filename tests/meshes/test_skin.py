"""A skin moves vertices as linear blend skinning does, in the frame of the mesh and of parents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.meshes.bending_tube import bending_tube


def test_the_first_timestep_is_the_rest_pose() -> None:
    sequence, skin = bending_tube()
    assert np.abs(skin.pose(sequence.vertices[0], 0) - sequence.vertices[0]).max() < 1e-6


def test_local_motion_leads_to_the_same_pose() -> None:
    sequence, skin = bending_tube()
    rest, t = sequence.vertices[0], len(skin) - 1
    positions, rotations = skin.local_motion()
    world = np.tile(np.eye(4), (len(skin.parents), 1, 1))
    for bone, parent in enumerate(skin.parents):
        local = np.eye(4)
        local[:3, :3] = Rotation.from_quat(rotations[t, bone]).as_matrix()
        local[:3, 3] = positions[t, bone]
        world[bone] = local if parent < 0 else world[parent] @ local
    moved = np.zeros(rest.shape)
    for slot in range(4):
        joint, weight = skin.joints[:, slot], skin.weights[:, slot, None] / 255
        around = rest - skin.pivots[joint]
        moved += weight * (
            np.einsum("vij,vj->vi", world[joint, :3, :3], around) + world[joint, :3, 3]
        )
    assert np.abs(moved - sequence.vertices[t]).max() < 1e-6


def test_local_rotations_take_the_shorter_way() -> None:
    _, skin = bending_tube()
    flipped = skin.rotations.copy()
    flipped[1::2] *= -1
    _, rotations = replace(skin, rotations=flipped).local_motion()
    assert (np.einsum("tbi,tbi->tb", rotations[1:], rotations[:-1]) > 0).all()


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("weights", lambda w: w // 2, "sum to 255"),
        ("joints", lambda j: j + 9, "outside the 2 bones"),
        ("parents", lambda _: (-1, 1), "parent comes before"),
        ("positions", lambda p: p * np.float32("nan"), "not finite"),
        ("pivots", lambda p: p[:1], "pivots must be"),
        ("rotations", lambda r: r.astype(float), "rotations must be"),
    ],
)
def test_values_that_do_not_fit_are_refused(
    name: str, change: Callable[[Any], Any], said: str
) -> None:
    _, skin = bending_tube()
    with pytest.raises(ValueError, match=said):
        replace(skin, **{name: change(getattr(skin, name))})
