"""Crops every frame to a square around the subject, all at one scale.

A clip may be 4096 pixels wide and its subject a tenth of that. The scale is chosen so that the
subject fills the square, and the square's centre follows the subject. Its corner lies on whole
source pixels, so that the way back to source coordinates is exact. Called by pipeline.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from video.fields import Field, Points

_MARGIN = 1.12
_FOLLOWS_FRAMES = 2.0
"""Standard deviation over time of the crop's centre, so that moving limbs do not shake it."""
_WORTH_FOLLOWING = 0.9
"""The crop does not move unless following the subject saves a tenth of the side."""


@dataclass(frozen=True)
class CroppedClip:
    """The cropped clip. `images` uint8 RGB and `alphas` float32 0..1, one `(side, side)` a frame.

    Crop pixel p of frame t shows source pixel `origins[t] + (p + 0.5) * source_px - 0.5`.
    """

    images: list[NDArray[np.uint8]]
    alphas: list[Field]
    origins: NDArray[np.int64]
    source_px: float

    def to_source(self, t: int, points: Points) -> Points:
        """Crop positions `(N, 2)` of frame `t` in the pixels of the source frame."""
        return np.asarray(self.origins[t] + (points + 0.5) * self.source_px - 0.5)

    def some(self, frames: NDArray[np.int64]) -> CroppedClip:
        """These frames only."""
        chosen = frames.tolist()
        images, alphas = ([of[t] for t in chosen] for of in (self.images, self.alphas))
        return CroppedClip(images, alphas, self.origins[chosen], self.source_px)

    def shrunk(self, side: int, stride: int) -> CroppedClip:
        """Every `stride`-th frame at a smaller size, for coarse work."""
        factor = self.alphas[0].shape[0] / side
        size, how = (side, side), cv2.INTER_AREA
        return CroppedClip(
            [cv2.resize(image, size, interpolation=how) for image in self.images[::stride]],
            [cv2.resize(alpha, size, interpolation=how) for alpha in self.alphas[::stride]],
            self.origins[::stride],
            self.source_px * factor,
        )


def crop_to_subject(frames: NDArray[np.uint8], side: int) -> CroppedClip:
    """Crop all frames, RGBA `(T, H, W, 4)`, around the subject, to squares of `side` pixels."""
    origins, length = _square(_subject_boxes(frames[..., 3]))
    images, alphas = [], []
    for frame, origin in zip(frames, origins, strict=True):
        left, top = (int(value) for value in origin)
        images.append(_crop(frame[..., :3], left, top, length, side, cv2.BORDER_REPLICATE))
        alpha = _crop(frame[..., 3], left, top, length, side, cv2.BORDER_CONSTANT)
        alphas.append(alpha.astype(np.float32) / np.float32(255))
    return CroppedClip(images, alphas, origins, length / side)


def _subject_boxes(alphas: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Bounding boxes `(T, 4)` in source pixels; frames without a subject take the nearest one's."""
    boxes = np.full((len(alphas), 4), np.nan)
    for t, alpha in enumerate(alphas):
        x, y, width, height = cv2.boundingRect((alpha > 127).astype(np.uint8))
        if width:
            boxes[t] = (x, y, x + width, y + height)
    seen = np.flatnonzero(~np.isnan(boxes[:, 0]))
    nearest = seen[np.abs(np.arange(len(boxes))[:, None] - seen).argmin(axis=1)]
    return np.asarray(boxes[nearest])


def _square(boxes: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """Upper left corners `(T, 2)` and side of the crops, in whole source pixels."""
    low, high = boxes[:, :2], boxes[:, 2:]
    still = np.broadcast_to((low.min(0) + high.max(0)) / 2, low.shape)
    moving = gaussian_filter1d((low + high) / 2, _FOLLOWS_FRAMES, axis=0, mode="nearest")

    def side(centres: NDArray[np.float64]) -> float:
        return 2 * float(max((centres - low).max(), (high - centres).max()))

    centres = moving if side(moving) < _WORTH_FOLLOWING * side(still) else still
    length = max(8, round(_MARGIN * side(centres)))
    return np.round(centres - length / 2).astype(np.int64), length


def _crop(
    image: NDArray[np.uint8], left: int, top: int, length: int, side: int, border: int
) -> NDArray[np.uint8]:
    """The square at (left, top), padded where it leaves the image, resized to `side` pixels."""
    height, width = image.shape[:2]
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x1, y1 = min(max(left + length, x0 + 1), width), min(max(top + length, y0 + 1), height)
    missing = (y0 - top, top + length - y1, x0 - left, left + length - x1)
    part = cv2.copyMakeBorder(image[y0:y1, x0:x1], *missing, border, value=0)
    how = cv2.INTER_AREA if length > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(part, (side, side), interpolation=how))
