"""A tube that two bones bend, with the skin that moves it; and the skin of a mesh at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from meshes.sequence import MeshSequence
from meshes.skin import Skin
from tests.meshes.walking_animal import walking_animal

RINGS, SIDES = 24, 16


def bending_tube(timesteps: int = 7) -> tuple[MeshSequence, Skin]:
    """A tube along +Y whose upper half bends by up to 60 degrees, moves and turns as a whole."""
    heights = np.linspace(-0.8, 0.8, RINGS)
    angles = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)
    rest = np.stack(
        [
            np.tile(0.2 * np.cos(angles), RINGS),
            np.repeat(heights, SIDES),
            np.tile(0.2 * np.sin(angles), RINGS),
        ],
        axis=1,
    ).astype(np.float32)
    upper = np.clip(np.repeat(heights, SIDES) / 0.4 + 0.5, 0, 1)
    second = np.round(255 * upper).astype(np.uint8)
    weights = np.zeros((len(rest), 4), np.uint8)
    weights[:, 0], weights[:, 1] = 255 - second, second
    joints = np.zeros((len(rest), 4), np.uint8)
    joints[second > 0, 1] = 1

    share = np.linspace(0, 1, timesteps)
    lower = Rotation.from_rotvec(share[:, None] * [0, 0.5, 0])
    bend = lower * Rotation.from_rotvec(share[:, None] * [0, 0, np.pi / 3])
    rotations = np.stack([lower.as_quat(), bend.as_quat()], axis=1).astype(np.float32)
    pivots = np.array([[0, -0.4, 0], [0, 0, 0]], np.float32)
    moved = share[:, None] * [0.3, 0.0, 0.1]
    positions = np.stack([moved + pivots[0], moved + pivots[0] + lower.apply([0, 0.4, 0])], axis=1)
    skin = Skin(joints, weights, (-1, 0), pivots, rotations, positions.astype(np.float32))

    ring = np.arange(SIDES)
    a = (np.arange(RINGS - 1)[:, None] * SIDES + ring).ravel()
    b = (np.arange(RINGS - 1)[:, None] * SIDES + (ring + 1) % SIDES).ravel()
    walls = np.concatenate([np.stack([a, a + SIDES, b], 1), np.stack([b, a + SIDES, b + SIDES], 1)])
    bottom = np.stack([np.zeros(SIDES - 2), ring[1:-1], ring[2:]], 1)
    top = np.stack([np.zeros(SIDES - 2), ring[2:], ring[1:-1]], 1) + (RINGS - 1) * SIDES
    faces = np.concatenate([walls, bottom, top]).astype(np.int32)
    still = MeshSequence(rest[None], faces, fps=12.0)
    frames = np.stack([skin.pose(rest, t) for t in range(timesteps)]).astype(np.float32)
    return replace(still, vertices=frames), skin


def one_bone(sequence: MeshSequence) -> Skin:
    """A bone that does not move; the mesh moves as little as it does."""
    steps, vertices = sequence.vertices.shape[:2]
    weights = np.tile(np.array([255, 0, 0, 0], np.uint8), (vertices, 1))
    unturned = np.tile(np.array([0, 0, 0, 1], np.float32), (steps, 1, 1))
    origin = np.zeros((steps, 1, 3), np.float32)
    return Skin(np.zeros_like(weights), weights, (-1,), origin[0], unturned, origin)


def textured_tube(timesteps: int = 7) -> tuple[MeshSequence, Skin]:
    """The tube with a JPEG, whose texture coordinates have no seam."""
    (sequence, skin), texture = bending_tube(timesteps), walking_animal(1, rings=4).texture
    assert texture is not None
    x, y, z = (sequence.vertices[0].T + 1) / 2
    uv = np.stack([x, (y + z) / 2], axis=1).astype(np.float32)
    return replace(sequence, texture=replace(texture, uv=uv)), skin
