"""A walking animal and its video: frames with alpha, drawn as a known camera sees it. Cheap.

Faces are filled from the farthest to the nearest, in colours of their places on the body.
"""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence
from meshes.view import View
from tests.meshes.walking_animal import walking_animal
from video.clip import Clip, SourceFacts

AZIMUTH, ELEVATION = 60.0, 10.0
RINGS, FPS = 24, 8.0


def animal(timesteps: int = 16) -> MeshSequence:
    """Without colours."""
    return walking_animal(timesteps, RINGS, "plain", FPS)


def camera(timesteps: int = 16, px: int = 160) -> View:
    """From AZIMUTH and ELEVATION; the animal fills most of the picture."""
    azimuth, elevation = np.radians((AZIMUTH, ELEVATION))
    back = np.array(
        [
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
            np.cos(azimuth) * np.cos(elevation),
        ]
    )
    right = np.cross([0, 1, 0], back) / np.cos(elevation)
    axes = np.array([right, np.cross(back, right), back])
    eyes = np.repeat(back[None] * 5, timesteps, axis=0)
    return View(axes, eyes, np.zeros(3), px * 3.0, px, px, "exact")


def frames(meshes: MeshSequence, view: View) -> NDArray[np.uint8]:
    """RGBA `(T, H, W, 4)`."""
    return np.stack([_frame(meshes, view, t) for t in range(len(meshes))])


def film(meshes: MeshSequence, view: View) -> Clip:
    """The frames as a clip."""
    facts = SourceFacts(view.width, view.height, len(meshes), FPS, tuple(range(len(meshes))))
    return Clip(frames(meshes, view), FPS, facts)


def packed(pictures: NDArray[np.uint8]) -> bytes:
    """A zip of PNGs, RGB or RGBA, as a client sends it."""
    content = io.BytesIO()
    order = [2, 1, 0, 3][: pictures.shape[3]]
    with zipfile.ZipFile(content, "w") as archive:
        for k, picture in enumerate(pictures):
            png = cv2.imencode(".png", np.ascontiguousarray(picture[..., order]))[1]
            archive.writestr(f"frame_{k:03d}.png", png.tobytes())
    return content.getvalue()


def animal_video() -> bytes:
    """The animal's frames with alpha, as a zip."""
    return packed(frames(animal(), camera()))


def _frame(meshes: MeshSequence, view: View, t: int) -> NDArray[np.uint8]:
    vertices = meshes.vertices[t].astype(float)
    points = view.project(vertices, t)[meshes.faces]
    middles = vertices[meshes.faces].mean(axis=1)
    places = meshes.vertices[0][meshes.faces].mean(axis=1)
    colours = np.clip(128 + 90 * places, 30, 250).astype(int).tolist()
    depth = np.linalg.norm(middles - view.eyes[t], axis=1)
    picture = np.zeros((view.height, view.width, 4), np.uint8)
    corners = np.round((points - 0.5) * 16).astype(np.int32)  # in sixteenths of a pixel
    for k in np.argsort(-depth):
        cv2.fillConvexPoly(picture, corners[k], (*colours[k], 255), shift=4)
    return picture
