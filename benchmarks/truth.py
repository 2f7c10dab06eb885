"""Clips whose meshes, cameras and colours are known, and meshes as a generator would make them.

Read from TEST_MEDIA/truth, whose README describes the files. Used by quality.py and by tests.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence, Texture
from meshes.texture import srgb_to_linear
from meshes.view import View
from video.clip import Clip, SourceFacts

FPS = 16.0

Vertices = NDArray[np.float32]
Faces = NDArray[np.int32]


@dataclass(frozen=True)
class Truth:
    """What is known of a clip: `meshes` have their colours or texture, and the true view."""

    name: str
    clip: Clip
    meshes: MeshSequence

    @property
    def view(self) -> View:
        assert self.meshes.view is not None
        return self.meshes.view

    @property
    def bare(self) -> MeshSequence:
        """The meshes without view and colours: what a pipeline would give, if it were exact."""
        return MeshSequence(self.meshes.vertices, self.meshes.faces, self.meshes.fps)


def truth_names(media: Path) -> list[str]:
    """The names of all clips in TEST_MEDIA, sorted."""
    return sorted(path.stem for path in (media / "truth").glob("*.npz"))


def load_truth(media: Path, name: str) -> Truth:
    """One clip. Raises OSError if it is not there."""
    frames = np.stack(list(_frames(media / "truth" / f"{name}.zip")))
    with np.load(media / "truth" / f"{name}.npz") as saved:
        found = {key: saved[key] for key in saved.files}
    vertices, faces = found["vertices"].astype(np.float32), found["faces"].astype(np.int32)
    axes = found["R"].astype(np.float64)
    count, size = len(vertices), int(found["size"])
    eye = -axes.T @ found["t"]
    middle = (vertices.min(axis=(0, 1)) + vertices.max(axis=(0, 1))) / 2
    view = View(
        axes, np.tile(eye, (count, 1)), middle.astype(float), float(found["f"]), size, size, "exact"
    )
    texture, colors = None, None
    if found["texture"].size:
        uv = found["uv"].astype(np.float32)
        texture = Texture(found["texture"].tobytes(), "image/png", uv)
    else:
        colors = _linear_rgba(found["colors"])
    facts = SourceFacts(frames.shape[2], frames.shape[1], count, None, tuple(range(count)))
    meshes = MeshSequence(vertices, faces, FPS, colors, texture, view=view)
    return Truth(name, Clip(frames, FPS, facts), meshes)


def generated(
    meshes: MeshSequence, noise: float, faces: int = 36_000, seed: int = 0
) -> MeshSequence:
    """The meshes as a generator would make them: closed up, fine, and wrong by `noise`.

    Vertices at one place become one, faces are divided until there are about `faces`, and smooth
    noise, `noise` of the largest side (standard deviation), moves the shape; three tenths of it
    again in each timestep. No colours, no view.
    """
    vertices, triangles = _welded(meshes.vertices, meshes.faces)
    while len(triangles) * 2 < faces:
        vertices, triangles = _divided(vertices, triangles)
    random = np.random.default_rng(seed)
    side = float(np.ptp(vertices[0], axis=0).max()) * noise
    moved = vertices + _waves(vertices[0], side, random)
    moved = moved + np.stack([_waves(vertices[0], 0.3 * side, random) for _ in vertices])
    stretched = moved * (1 + random.normal(size=3) * noise)
    return MeshSequence(stretched.astype(np.float32), triangles.astype(np.int32), meshes.fps)


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            encoded = np.frombuffer(archive.read(name), np.uint8)
            picture = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
            assert picture is not None, name
            yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)


def _linear_rgba(srgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rgba = np.full((len(srgb), 4), 255, np.uint8)
    rgba[:, :3] = np.rint(srgb_to_linear(srgb[:, :3]) * 255)
    return rgba


def _welded(vertices: Vertices, faces: Faces) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices that lie at one place in all timesteps become one; empty triangles go."""
    paths = vertices.transpose(1, 0, 2).reshape(vertices.shape[1], -1).round(4)
    _, first, new = np.unique(paths, axis=0, return_index=True, return_inverse=True)
    triangles = new.ravel()[faces]
    a, b, c = triangles.T
    return vertices[:, first].astype(float), triangles[(a != b) & (b != c) & (c != a)]


def _divided(
    vertices: NDArray[np.float64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every triangle in four, at the middles of its edges."""
    sides = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, middle = np.unique(sides, axis=0, return_inverse=True)
    ab, bc, ca = (middle.reshape(-1, 3) + vertices.shape[1]).T
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    added = (vertices[:, edges[:, 0]] + vertices[:, edges[:, 1]]) / 2
    return np.concatenate([vertices, added], axis=1), np.concatenate(
        [np.stack(part, axis=1) for part in parts]
    )


def _waves(
    points: NDArray[np.float64], size: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Smooth displacements `(V, 3)` of points `(V, 3)`: twelve plane waves of random directions."""
    moves = np.zeros_like(points)
    for _ in range(12):
        phase = points @ random.normal(size=3) * 5 + random.uniform(0, 2 * np.pi)
        moves += np.sin(phase)[:, None] * random.normal(size=3)
    return np.asarray(moves / moves.std() * size / np.sqrt(3))
