"""The parts of the preview that are the same at every timestep: rays, background, floor, occlusion.

Used by renderer.py; it traces and shades nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.ambient_occlusion import AmbientOcclusion, Floor
from meshes.camera import Camera
from meshes.preview_background import background
from meshes.sequence import MeshSequence


@dataclass(frozen=True)
class Panel:
    """One camera's picture without the subject.

    `rays` float32 `(S, S, 3)` go through the pixel `centres` `(S, S, 2)`; `floor_cells` `(S, S, 2)`
    are the positions on the floor's grid that they hit.
    """

    camera: Camera
    empty: NDArray[np.float32]
    centres: NDArray[np.float32]
    rays: NDArray[np.float32]
    floor_cells: NDArray[np.float32]

    def with_shadow(self, shadow: NDArray[np.float32]) -> NDArray[np.float32]:
        """The background under a floor's shadow, sRGB 0..255 `(S, S, 3)`."""
        dark = cv2.remap(
            shadow, self.floor_cells, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(self.empty * dark[..., None])


class PreviewScene:
    """Built once for a sequence and its cameras. `radius` is half its bounding box's diagonal."""

    def __init__(self, sequence: MeshSequence, cameras: Sequence[Camera]) -> None:
        low, high = (f(axis=(0, 1)) for f in (sequence.vertices.min, sequence.vertices.max))
        self.radius = max(float(np.linalg.norm(high - low)) / 2, 1e-6)
        self.floor = Floor(low, high, self.radius)
        self.occlusion = AmbientOcclusion(sequence, self.radius)
        self.panels = [self._panel(camera) for camera in cameras]

    def _panel(self, camera: Camera) -> Panel:
        size = camera.size_px
        y, x = np.mgrid[:size, :size].astype(np.float32) + np.float32(0.5)
        centres = np.stack([x, y], -1)
        rays = camera.directions(centres.reshape(-1, 2)).reshape(size, size, 3)
        return Panel(camera, background(size), centres, rays, self.floor.cells(camera, rays))
