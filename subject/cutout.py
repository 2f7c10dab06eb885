"""The alphas of a part of a clip's frames, and frames resized to be segmented.

Called by find.py and plain_clip.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from video.clip import Clip
from video.sizes import segmented_size

Images = list[NDArray[np.uint8]]
"""A part of every frame at working size, RGB `(h, w, 3)`."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of a frame; right and bottom are one past the end."""


@dataclass(frozen=True)
class Cutout:
    """`alphas` uint8 `(T, h, w)` of a part of the frames, coarser or finer than their pixels."""

    alphas: NDArray[np.uint8]
    box: Box

    @property
    def scale(self) -> float:
        """Alpha pixels per pixel of the frame."""
        return float(self.alphas.shape[2] / (self.box[2] - self.box[0]))

    def onto(self, clip: Clip) -> NDArray[np.uint8]:
        """The alphas `(T, H, W)` in the size of the clip's frames; 0 outside of the box."""
        left, top, right, bottom = self.box
        size = (right - left, bottom - top)
        how = cv2.INTER_AREA if self.scale > 1 else cv2.INTER_LINEAR
        out = np.zeros(clip.frames.shape[:3], np.uint8)
        for whole, alpha in zip(out, self.alphas, strict=True):
            whole[top:bottom, left:right] = cv2.resize(alpha, size, interpolation=how)
        return out


def whole_frame(frames: NDArray[np.uint8]) -> Box:
    """All of a frame of `(T, H, W, C)`."""
    _, height, width, _ = frames.shape
    return 0, 0, width, height


def resized(frames: NDArray[np.uint8], box: Box) -> Images:
    """The box of every frame, resized one frame at a time."""
    left, top, right, bottom = box
    size = segmented_size(right - left, bottom - top)
    how = cv2.INTER_AREA if size.width < right - left else cv2.INTER_CUBIC
    parts = (frame[top:bottom, left:right, :3] for frame in frames)
    return [cv2.resize(part, size, interpolation=how) for part in parts]


def softened(masks: list[NDArray[np.bool_]], sigma: float) -> NDArray[np.uint8]:
    """Masks with a soft rim, uint8 `(T, h, w)`."""
    return np.stack([cv2.GaussianBlur(np.uint8(255) * mask, (0, 0), sigma) for mask in masks])
