"""The tracker's input: the subject on a flat grey, its outlines, and optical flow between frames.

The grey contrasts with the subject, so that the flow also follows the outline. Used by tracking.py
and reference_frame.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from silhouette.crop import CroppedClip
from silhouette.outline import Outline
from silhouette.triangulation import Triangles
from video.fields import Field, Points, sample_field
from video.flow import Grey, optical_flow


@dataclass(frozen=True)
class TrackingFrames:
    """One clip for the tracker: `greys` uint8, `alphas` float 0..1 and `outlines`, one per frame.

    `background_level` is the grey around the subject.
    """

    greys: list[Grey]
    alphas: list[Field]
    outlines: list[Outline]
    background_level: int

    @classmethod
    def from_clip(cls, cropped: CroppedClip, tick: Callable[[], None]) -> TrackingFrames:
        """Put the subject on dark or light grey, whichever its median is farther from."""
        plain = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in cropped.images]
        pairs = list(zip(plain, cropped.alphas, strict=True))
        inside = [grey[alpha > 0.5][::16] for grey, alpha in pairs]
        background_level = 235 if np.median(np.concatenate(inside)) < 128 else 20
        greys, outlines = [], []
        for grey, alpha in pairs:
            greys.append((grey * alpha + background_level * (1 - alpha)).astype(np.uint8))
            outlines.append(Outline.of(alpha))
            tick()
        return cls(greys, cropped.alphas, outlines, background_level)

    def place(self, t: int) -> tuple[Points, float] | None:
        """The mask's centroid `(1, 2)` and the square root of its area; None for an empty mask."""
        moments = cv2.moments((self.alphas[t] > 0.5).astype(np.uint8), binaryImage=True)
        area = moments["m00"]
        if not area:
            return None
        return np.array([[moments["m10"] / area, moments["m01"] / area]]), float(np.sqrt(area))

    def __len__(self) -> int:
        return len(self.greys)

    @property
    def scale(self) -> float:
        """Pixels of these frames per pixel of a crop of 512, for which distances are given."""
        return float(self.greys[0].shape[0] / 512)

    def flow(self, source: int, target: int) -> Field:
        """Optical flow from frame `source` to frame `target`."""
        return optical_flow(self.greys[source], self.greys[target])

    def overlap(self, points: Points, triangles: Triangles, t: int) -> float:
        """Intersection over union of drawn triangles and the mask of frame `t`; both empty: 1."""
        drawn = np.zeros(self.greys[t].shape, np.uint8)
        for corners in np.round(points[triangles] * 16).astype(np.int32):
            cv2.fillConvexPoly(drawn, corners, 1, shift=4)
        mesh, mask = drawn > 0, self.alphas[t] > 0.5
        union = np.count_nonzero(mesh | mask)
        return float(np.count_nonzero(mesh & mask) / union) if union else 1.0


def follow(points: Points, forward: Field, backward: Field) -> tuple[Points, NDArray[np.float64]]:
    """`points` `(N, 2)` moved by the flow, and how many pixels the backward flow misses them by."""
    step = sample_field(forward, points).astype(np.float64)
    carried = points + step
    missed = np.linalg.norm(step + sample_field(backward, carried), axis=1)
    return carried, missed
