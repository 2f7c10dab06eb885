"""Finds the reference frame's picture in another frame, once a track leads roughly there.

It removes what drift leaves: tracking from neighbour to neighbour adds up small errors. Called by
tracking.py, in the modes that compare every frame with the reference (`reanchor`).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from silhouette.tracking_frames import TrackingFrames, follow
from silhouette.triangulation import Mesh, embed
from video.fields import Points, sample_field
from video.flow import optical_flow


class ReferenceMatcher:
    """Warps a frame back to the reference by its track, and measures the remaining motion."""

    def __init__(self, frames: TrackingFrames, reference: int, control_mesh: Mesh) -> None:
        self._frames, self._control_mesh = frames, control_mesh
        self._inside = frames.outlines[reference].distance
        is_near = self._inside > -3
        self._pixels = np.nonzero(is_near)
        places = np.stack(self._pixels[::-1], 1).astype(np.float64)
        self._corners, self._weights = embed(control_mesh, places)
        level = np.uint8(frames.background_level)
        self._image = np.where(is_near, frames.greys[reference], level)

    def match(self, points: Points, t: int) -> tuple[Points, NDArray[np.float64]]:
        """Where in frame `t` the nodes' reference neighbourhood is found, and a weight each."""
        came_from = np.full((*self._image.shape, 2), -50, np.float32)
        came_from[self._pixels] = np.einsum(
            "nk,nkd->nd", self._weights, points[self._corners], optimize=True
        )
        grey, level = self._frames.greys[t], self._frames.background_level
        warped_back = cv2.remap(grey, came_from, None, cv2.INTER_LINEAR, borderValue=level)
        nodes = self._control_mesh.points
        forward = optical_flow(self._image, warped_back)
        found, flow_error = follow(nodes, forward, optical_flow(warped_back, self._image))
        inside = sample_field(self._inside, found) > 0
        near = np.linalg.norm(found - nodes, axis=1) < 12 * self._frames.scale
        own_grey = sample_field(self._image, nodes).astype(float)
        grey_difference = own_grey - sample_field(warped_back, found)
        match_weight = np.exp(-((flow_error / 1.2) ** 2) - (grey_difference / 30) ** 2)
        matched = np.where(inside[:, None], sample_field(came_from, found), points)
        return matched, match_weight * (inside & near)
