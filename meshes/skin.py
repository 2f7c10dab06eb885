"""Skin: the motion of a mesh as bones that move its vertices (linear blend skinning).

skinning.py finds the skin of a MeshSequence; skinned_glb.py, usd_skin.py and blender.py write it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from meshes.sequence import MeshSequence

INFLUENCES = 4
"""Bones that move one vertex, at most: what every engine reads."""
FULL_WEIGHT = 255
"""The sum of a vertex's weights."""
MAX_BONES = 250
"""Joints are stored in one byte, and the writers add a root."""


@dataclass(frozen=True)
class Skin:
    """B bones that move V vertices over T timesteps, in the space of the sequence.

    `joints` uint8 `(V, 4)` are a vertex's bones, `weights` uint8 `(V, 4)` how much each counts: a
    row's sum is 255, and where a weight is 0 its joint is 0. `parents` has each bone's parent,
    which comes before it, or -1. `pivots` float32 `(B, 3)` are the bones' positions at timestep 0,
    `positions` float32 `(T, B, 3)` and `rotations` float32 `(T, B, 4)` (unit quaternions x, y, z, w
    that turn timestep 0 into timestep t) their motion. Bone b takes vertex v of timestep 0 to
    R (v - pivot) + position. Raises ValueError if shapes or values do not fit.
    """

    joints: NDArray[np.uint8]
    weights: NDArray[np.uint8]
    parents: tuple[int, ...]
    pivots: NDArray[np.float32]
    rotations: NDArray[np.float32]
    positions: NDArray[np.float32]

    def __post_init__(self) -> None:
        bones, steps = len(self.parents), len(self.rotations)
        shapes = {
            "joints": (len(self.joints), INFLUENCES),
            "weights": (len(self.joints), INFLUENCES),
            "pivots": (bones, 3),
            "rotations": (steps, bones, 4),
            "positions": (steps, bones, 3),
        }
        for name, shape in shapes.items():
            array = getattr(self, name)
            kind = np.uint8 if name in ("joints", "weights") else np.float32
            if array.shape != shape or array.dtype != kind:
                raise ValueError(f"{name} must be {kind.__name__} {shape}, not {array.dtype}")
            if not np.isfinite(array).all():
                raise ValueError(f"{name} hold values that are not finite")
        if not 1 <= bones <= MAX_BONES or steps < 1:
            raise ValueError(f"a skin has 1 to {MAX_BONES} bones and a timestep, not {bones}")
        if any(not -1 <= parent < bone for bone, parent in enumerate(self.parents)):
            raise ValueError("a bone's parent comes before it")
        if self.joints.max() >= bones:
            raise ValueError(f"joints point outside the {bones} bones")
        if (self.weights.sum(axis=1, dtype=int) != FULL_WEIGHT).any():
            raise ValueError(f"the weights of each vertex must sum to {FULL_WEIGHT}")

    def __len__(self) -> int:
        """The number of timesteps."""
        return len(self.rotations)

    def pose(self, rest: NDArray[np.float32], t: int) -> NDArray[np.float64]:
        """Where the vertices are at timestep `t`; `rest` `(V, 3)` are those of timestep 0."""
        turns = Rotation.from_quat(self.rotations[t]).as_matrix()
        moves = self.positions[t] - np.einsum("bij,bj->bi", turns, self.pivots)
        moved = np.zeros(rest.shape)
        for joint, weight in zip(self.joints.T, self.weights.T / FULL_WEIGHT, strict=True):
            own = np.einsum("vij,vj->vi", turns[joint], rest) + moves[joint]
            moved += weight[:, None] * own
        return moved

    def local_motion(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Positions `(T, B, 3)` and rotations `(T, B, 4)` of the bones in their parents' frames.

        A bone without a parent is in the frame of the mesh. From one timestep to the next the signs
        of the quaternions are those of the shorter way.
        """
        steps, bones = self.rotations.shape[:2]
        turns = Rotation.from_quat(self.rotations.reshape(-1, 4)).as_matrix()
        turns = turns.reshape(steps, bones, 3, 3)
        positions, local = self.positions.astype(np.float64), turns.copy()
        for bone, parent in enumerate(self.parents):
            if parent >= 0:
                back = turns[:, parent].transpose(0, 2, 1)
                offset = self.positions[:, bone] - self.positions[:, parent]
                positions[:, bone] = np.einsum("tij,tj->ti", back, offset)
                local[:, bone] = back @ turns[:, bone]
        rotations = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat()
        return positions.astype(np.float32), with_continuous_signs(
            rotations.reshape(steps, bones, 4)
        )


def check_skin(sequence: MeshSequence, skin: Skin) -> None:
    """Raise ValueError unless the skin has the sequence's timesteps and vertices."""
    found, needed = (len(skin), len(skin.joints)), sequence.vertices.shape[:2]
    if found != needed:
        raise ValueError(f"a skin of {needed} timesteps and vertices is needed, not {found}")


def with_continuous_signs(rotations: NDArray[np.float64]) -> NDArray[np.float32]:
    """The same rotations `(T, B, 4)`, each on the side of the one before."""
    agree = np.einsum("tbi,tbi->tb", rotations[1:], rotations[:-1])
    signs = np.cumprod(np.where(agree < 0, -1.0, 1.0), axis=0)
    continuous = rotations.copy()
    continuous[1:] *= signs[..., None]
    return np.asarray(continuous, np.float32)
