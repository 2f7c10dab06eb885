"""A procedural walking animal for tests: four legs, a head, fixed topology, uv texture.

Made from a sphere of latitude and longitude, with a UV seam and poles: about as many vertices as a
real job's mesh. It is not symmetric, so that tests notice a mirrored mesh.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence, Texture

# direction from the body's middle, reach, width of the lobe, how far it swings (radians)
_LIMBS = (
    ((0.62, -0.75, 0.30), 0.62, 0.016, 0.30),
    ((0.55, -0.80, -0.33), 0.60, 0.016, -0.30),
    ((-0.60, -0.76, 0.31), 0.62, 0.016, -0.28),
    ((-0.55, -0.80, -0.32), 0.60, 0.016, 0.28),
    ((0.86, 0.55, 0.05), 0.55, 0.030, 0.08),
    ((-0.95, 0.30, 0.00), 0.35, 0.008, 0.35),
)


def walking_animal(
    timesteps: int = 16, rings: int = 100, kind: str = "textured", fps: float = 8.0
) -> MeshSequence:
    """A walking animal of rings * rings vertices; `kind` is plain, coloured or textured."""
    across, down = np.meshgrid(np.linspace(0, 1, rings), np.linspace(0, 1, rings))
    theta, phi = down.ravel() * np.pi, across.ravel() * 2 * np.pi
    directions = np.stack(
        [np.sin(theta) * np.sin(phi), np.cos(theta), np.sin(theta) * np.cos(phi)], -1
    )
    # seam and poles meet exactly, as they do in a mesh cut for its texture
    directions = np.round(directions, 12) + 0.0
    vertices = np.stack([_pose(directions, k / timesteps) for k in range(timesteps)])
    faces = _faces(rings)
    if kind == "coloured":
        colors = np.full((len(directions), 4), 255, np.uint8)
        colors[:, :3] = (directions * 100 + 128).astype(np.uint8)
        return MeshSequence(vertices.astype(np.float32), faces, fps, colors=colors)
    if kind == "textured":
        uv = np.stack([across.ravel(), down.ravel()], -1).astype(np.float32)
        texture = Texture(_picture(), "image/jpeg", uv)
        return MeshSequence(vertices.astype(np.float32), faces, fps, texture=texture)
    return MeshSequence(vertices.astype(np.float32), faces, fps)


def _pose(directions: NDArray[np.float64], phase: float) -> NDArray[np.float64]:
    radius = np.full(len(directions), 0.30)
    lean = np.zeros(len(directions))
    for direction, reach, width, swing in _LIMBS:
        axis = np.array(direction) / np.linalg.norm(direction)
        weight = np.exp((directions @ axis - 1) / width)
        radius += reach * weight
        lean += swing * weight * np.sin(2 * np.pi * phase)
    points: NDArray[np.float64] = directions * radius[:, None] * (1.25, 1.0, 0.8)
    points[:, 0] += lean * 0.5
    points[:, 1] += 0.02 * np.sin(4 * np.pi * phase)
    return points


def _faces(rings: int) -> NDArray[np.int32]:
    i = np.arange(rings * rings, dtype=np.int32).reshape(rings, rings)
    a, b, c, d = (part.ravel() for part in (i[:-1, :-1], i[1:, :-1], i[1:, 1:], i[:-1, 1:]))
    # without the flat triangles at the poles
    return np.concatenate(
        [np.stack([a, b, c], -1)[: 1 - rings], np.stack([a, c, d], -1)[rings - 1 :]]
    )


def _picture() -> bytes:
    """512 x 512 JPEG: a fur of soft patches, the same at both ends of the seam."""
    rng = np.random.default_rng(7)
    noise = rng.random((32, 32, 1)).astype(np.float32)
    noise = np.concatenate([noise, noise[:, :1]], axis=1)
    patches = cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC)[..., None]
    fine = cv2.GaussianBlur(rng.random((512, 512)).astype(np.float32), (0, 0), 1)[..., None]
    mix = np.clip(1.6 * (patches - 0.35), 0, 1)
    light, dark = np.array([[150, 190, 222], [62, 96, 140]], np.float32)
    pixels = (light * mix + dark * (1 - mix)) * (0.7 + 0.6 * fine)
    return bytes(cv2.imencode(".jpg", np.clip(pixels, 0, 255).astype(np.uint8))[1].tobytes())
