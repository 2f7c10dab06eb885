"""The subject's outline with sub-pixel accuracy: signed distance, contour points, normals.

The other files of this package take the outline from here. Positions are crop pixels: x to the
right, y down, pixel centres at integers. Segments nothing and tracks nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from scipy.spatial import cKDTree

from video.fields import Field, Points, gradient, sample_field

_CONTOUR_STEP_PX = 2.0
_SHORTEST_CONTOUR_PX = 14.0
_NORMAL_PX = 12.0
"""A turn of the normal by one radian counts as this distance, so that the left edge of a leg is not
matched with the right edge of the next leg."""


def signed_distance(alpha: Field) -> Field:
    """Distance to the 0.5 level of `alpha` in pixels, positive inside.

    The Euclidean distance transform of a mask has whole pixels only; taken at twice the size and
    averaged back it is accurate to about a quarter of a pixel.
    """
    height, width = alpha.shape
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.7)
    double = cv2.resize(soft, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
    mask = cv2.compare(double, 0.5, cv2.CMP_GT)
    distance = cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_5)
    distance -= cv2.distanceTransform(cv2.bitwise_not(mask), cv2.DIST_L2, cv2.DIST_MASK_5)
    distance -= np.float32(1 / 255) * mask  # both end at the far pixel's centre: the edge
    distance += np.float32(0.5)  # lies half a pixel before it
    out: Field = 0.5 * cv2.resize(distance, (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(out, -height - width, height + width)  # infinite where there is no edge


@dataclass(frozen=True)
class Outline:
    """The outline of one alpha image.

    `distance` as `signed_distance` gives it; `points` lie on its zero line about two pixels apart,
    holes included; `normals` are unit vectors that point outwards.
    """

    distance: Field
    points: Points
    normals: Points

    @classmethod
    def of(cls, alpha: Field) -> Outline:
        """Trace the 0.5 level of `alpha`, float `(H, W)` in 0..1."""
        distance = signed_distance(alpha)
        slope = _slope(distance)
        points = _trace(distance, slope)
        steepest = sample_field(slope, points).astype(np.float64)
        length = np.linalg.norm(steepest, axis=1, keepdims=True)
        return cls(distance, points, -steepest / np.maximum(length, 1e-6))

    def slope(self) -> Field:
        """The gradient of `distance`. Made anew each time, in half a millisecond: all frames' would
        be 250 MB."""
        return _slope(self.distance)

    def oriented(self, points: Points, normals: Points) -> Points:
        """Points in a 4-D space, where two edges are near only if they also face the same way."""
        return np.hstack([points, _NORMAL_PX * normals])

    @cached_property
    def tree(self) -> Any:
        """Nearest oriented contour points; built once, queried in every round of ICP."""
        return cKDTree(self.oriented(self.points, self.normals))


def _slope(distance: Field) -> Field:
    return gradient(cv2.GaussianBlur(distance, (0, 0), 0.8))


def _trace(distance: Field, slope: Field) -> Points:
    """Resample every contour evenly, then move the points onto the zero line by Newton steps.

    cv2.findContours follows pixel centres inside the mask, which are up to half a pixel off.
    """
    height, width = distance.shape
    double = cv2.resize(distance, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR) > 0
    # RETR_LIST: holes too
    found, _ = cv2.findContours(double.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    loops = []
    for contour in found:
        loop = (contour[:, 0, :].astype(np.float64) + 0.5) / 2 - 0.5
        closed = np.vstack([loop, loop[:1]])
        arc = np.r_[0, np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))]
        if arc[-1] < _SHORTEST_CONTOUR_PX:
            continue
        stops = np.linspace(0, arc[-1], max(4, int(arc[-1] / _CONTOUR_STEP_PX)), endpoint=False)
        loops.append(np.stack([np.interp(stops, arc, closed[:, k]) for k in (0, 1)], 1))
    points = np.concatenate(loops) if loops else np.zeros((0, 2))
    for _ in range(2):
        steepest = sample_field(slope, points)
        step = sample_field(distance, points) / np.maximum((steepest**2).sum(1), 0.25)
        points = points - np.clip(step, -1, 1)[:, None] * steepest
    return points
