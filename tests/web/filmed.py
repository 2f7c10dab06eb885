"""A mesh whose video is drawn from it, and the pipeline that returns it with the video's camera.

Not a mock: `PIPELINE=tests.web.filmed:Filmed` runs in the real child. The camera stands behind the
mesh, is rolled, sees it in perspective and follows it, so that nothing fits by chance.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from meshes.preview import write_source_video
from meshes.sequence import MeshSequence
from meshes.view import View
from tests.pipelines import BOX, Bends

FRAMES, FPS = 16, 8.0
WIDTH, HEIGHT = 480, 270
_SHIFT = 4
"""Bits after the point of OpenCV's coordinates."""


def filmed() -> MeshSequence:
    """Three boxes of different sizes, of which one swings; vertices `(16, 24, 3)`, with a view."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * 0.5
    body, head = corners * (0.5, 0.9, 0.3), corners * (0.3, 0.3, 0.5) + (0.1, 0.62, 0.15)
    boxes = []
    for k in range(FRAMES):
        swing = Rotation.from_euler("z", 50 + 40 * np.sin(2 * np.pi * k / FRAMES), degrees=True)
        arm = swing.apply(corners * (0.7, 0.14, 0.2) + (0.35, 0, 0)) + (0.2, 0.1, 0)
        walked = (0.6 * k / FRAMES, 0, 0)
        boxes.append(np.concatenate([body, head, arm]) + walked)
    vertices = np.array(boxes, np.float32)
    faces = np.concatenate([BOX, BOX + 8, BOX + 16]).astype(np.int32)
    return MeshSequence(vertices, faces, FPS, view=_view(vertices))


def _view(vertices: NDArray[np.float32]) -> View:
    """From behind, a little from above; it follows the subject, but not quite."""
    axes = Rotation.from_euler("YXZ", (152, -18, 6), degrees=True).as_matrix().T
    middles = (vertices.min(axis=1) + vertices.max(axis=1)) / 2
    eyes = middles * (0.8, 1, 1) + 3.2 * axes[2]
    return View(axes, eyes, middles.mean(axis=0), 430.0, WIDTH, HEIGHT, "exact")


def draw(sequence: MeshSequence) -> NDArray[np.uint8]:
    """What the view's camera sees: frames `(T, H, W, 3)`, the mesh dark red on light grey."""
    view = sequence.view
    assert view is not None
    frames = np.full((len(sequence), view.height, view.width, 3), 225, np.uint8)
    for k, frame in enumerate(frames):
        # OpenCV counts from the middle of the first pixel
        points = (view.project(sequence.vertices[k], k) - 0.5) * 2**_SHIFT
        for triangle in points.round().astype(np.int32)[sequence.faces]:
            cv2.fillConvexPoly(frame, triangle, (150, 30, 20), cv2.LINE_AA, _SHIFT)
    return frames


def write_clip(path: Path) -> Path:
    """The mesh's video."""
    write_source_video(draw(filmed()), FPS, path)
    return path


class Filmed(Bends):
    """Returns the mesh of which the clip was drawn."""

    def animate(
        self, clip: Any, mode: str, seed: int, reporter: Any, mesh: Any = None
    ) -> MeshSequence:
        """The clip has its frames, in order."""
        assert len(clip) == FRAMES
        super().animate(clip, mode, seed, reporter)
        return filmed()
