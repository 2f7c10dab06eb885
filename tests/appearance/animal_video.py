"""A walking animal of known camera, its frames with alpha, and the zip that a client would send."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MeshSequence
from meshes.view import View
from tests.appearance.drawn_clip import drawn_clip, view_from
from tests.meshes.walking_animal import walking_animal
from video.clip import Clip

AZIMUTH = 60.0
RINGS, FPS = 24, 8.0


def animal(timesteps: int = 16) -> MeshSequence:
    """Without colours."""
    return walking_animal(timesteps, RINGS, "plain", FPS)


def camera(timesteps: int = 16, px: int = 160) -> View:
    """The animal fills most of the picture."""
    view = view_from(animal(timesteps), AZIMUTH, 10.0, size=(px, px), distance=5.0, focal=3.0 * px)
    return replace(view, kind="exact")


def film(timesteps: int = 16, px: int = 160) -> Clip:
    """The animal in colours, as `camera` sees it."""
    return drawn_clip(walking_animal(timesteps, RINGS, "coloured", FPS), camera(timesteps, px))


def packed(pictures: NDArray[np.uint8]) -> bytes:
    """A zip of PNGs, RGB or RGBA."""
    content = io.BytesIO()
    order = [2, 1, 0, 3][: pictures.shape[3]]
    with zipfile.ZipFile(content, "w") as archive:
        for k, picture in enumerate(pictures):
            png = cv2.imencode(".png", np.ascontiguousarray(picture[..., order]))[1]
            archive.writestr(f"frame_{k:03d}.png", png.tobytes())
    return content.getvalue()
