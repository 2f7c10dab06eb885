"""The preview's cameras: fitted once to all timesteps, or the video's own.

Fitted once, so that the subject's size does not change over time. Called by preview.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meshes.view import View

FIELD_OF_VIEW_DEG = 26.0
"""Of the whole square picture: as from a camera a few metres away."""
MARGIN = 0.09
"""Empty border on each side, as a share of the picture."""


@dataclass(frozen=True)
class ViewDirection:
    """Where a camera looks from, in degrees: azimuth 0 is the subject's front (+Z), 90 its +X."""

    azimuth_deg: float
    elevation_deg: float


class Window(NamedTuple):
    """A square part of a picture, in px from the picture's upper left corner; may reach outside."""

    left: float
    top: float
    side: float


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with a square picture.

    `eye` is float32 `(3,)`; the rows of `axes` `(3, 3)` are the camera's right, up and backward
    directions in the mesh's space. On the plane at distance 1 before the eye the picture reaches
    `slope` to each side of its `middle`, which lies so far right and up of the optical axis.
    """

    eye: NDArray[np.float32]
    axes: NDArray[np.float32]
    slope: float
    size_px: int
    middle: tuple[float, float] = (0.0, 0.0)

    def directions(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rays `(N, 3)`, not normalised, through points `(N, 2)`: x right, y down, in px."""
        rays = np.empty((len(pixels), 3), np.float32)
        rays[:, :2] = pixels * np.float32(2 * self.slope / self.size_px) - np.float32(self.slope)
        rays[:, 1] *= -1
        rays[:, :2] += np.array(self.middle, np.float32)
        rays[:, 2] = -1
        return rays @ self.axes

    def project(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Picture points `(N, 2)` of points `(N, 3)` before the camera."""
        in_camera = (points - self.eye) @ self.axes.T
        plane = (in_camera[:, :2] / -in_camera[:, 2:] - self.middle) * (1, -1)
        return np.asarray((plane / self.slope + 1) * (self.size_px / 2), dtype=np.float32)


def fit_cameras(
    vertices: NDArray[np.float32], views: Sequence[ViewDirection], size_px: int
) -> list[Camera]:
    """One camera a view that sees all vertices `(T, V, 3)` of all timesteps.

    All stand equally far from the subject, so that it has one size in all pictures. Raises
    ValueError if a vertex is not finite.
    """
    if not np.isfinite(vertices).all():
        raise ValueError("vertices hold values that are not finite")
    points = vertices.reshape(-1, 3)
    slope = float(np.tan(np.radians(FIELD_OF_VIEW_DEG) / 2))
    all_axes = [_axes(view) for view in views]
    eyes = [_nearest_eye(points @ axes.T, slope * (1 - 2 * MARGIN)) for axes in all_axes]
    # the same distance to the middle of the subject: eye positions differ only in their third axis
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    distance = max(eye[2] - axes[2] @ middle for eye, axes in zip(eyes, all_axes, strict=True))
    cameras = []
    for eye, axes in zip(eyes, all_axes, strict=True):
        eye[2] = axes[2] @ middle + distance
        cameras.append(Camera((eye @ axes).astype(np.float32), axes, slope, size_px))
    return cameras


def video_camera(view: View, t: int, window: Window, size_px: int) -> Camera:
    """Timestep `t`'s perspective camera, with this window of the view's picture as its picture."""
    half = window.side / 2
    across = window.left + half - view.width / 2, view.height / 2 - window.top - half
    middle = across[0] / view.focal, across[1] / view.focal
    eye, axes = view.eyes[t].astype(np.float32), view.axes.astype(np.float32)
    return Camera(eye, axes, half / view.focal, size_px, middle)


def _axes(view: ViewDirection) -> NDArray[np.float32]:
    azimuth, elevation = np.radians((view.azimuth_deg, view.elevation_deg))
    level = np.cos(elevation)
    back = np.array([np.sin(azimuth) * level, np.sin(elevation), np.cos(azimuth) * level])
    right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
    return np.stack([right, np.cross(back, right), back]).astype(np.float32)


def _nearest_eye(points: NDArray[np.float32], slope: float) -> NDArray[np.float64]:
    """The nearest eye `(3,)`, in camera axes, from which all points lie within the slope.

    A point p is inside if |p.x - eye.x| <= slope * (eye.z - p.z), and y likewise: four bounds, each
    tight for one point.
    """
    x, y, z = points.astype(np.float64).T
    eye = np.zeros(3)
    reach = []
    for axis, across in enumerate((x, y)):
        right, left = (across + slope * z).max(), (-across + slope * z).max()
        eye[axis] = (right - left) / 2
        reach.append((right + left) / (2 * slope))
    # a mesh of one point still needs a distance
    eye[2] = max(*reach, z.max() + 1e-3)
    return eye
