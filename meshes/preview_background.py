"""Draws the preview's background, and the panel that shows the input frame on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.camera import MARGIN, Window

Picture = NDArray[np.uint8]

_TOP = np.array([247, 248, 250], np.float32)
_BOTTOM = np.array([229, 231, 236], np.float32)
_INSET = 0.045
"""Border around a frame without alpha, as a share of the panel."""
_CORNER = 0.03


def background(size_px: int) -> NDArray[np.float32]:
    """A light vertical gradient, sRGB 0..255 `(S, S, 3)`: panels side by side show no seam."""
    height = np.linspace(0, 1, size_px, dtype=np.float32)[:, None]
    height = height * height * (3 - 2 * height)
    column = _TOP * (1 - height) + _BOTTOM * height
    return np.repeat(column[:, None], size_px, axis=1)


def input_window(frames: NDArray[np.uint8]) -> Window:
    """The part of the frames `(T, H, W, 3|4)` that `input_panels` shows, one for all of them.

    Of RGBA frames the square around all pixels that are opaque in any frame, with a margin; of
    others all.
    """
    height, width = frames.shape[1:3]
    if not _is_cut_out(frames):
        side = max(height, width) / (1 - 2 * _INSET)
        return Window((width - side) / 2, (height - side) / 2, side)
    seen = frames[..., 3].max(axis=0) > 127
    if not seen.any():
        seen[:] = True
    columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    side = max(width, height) / (1 - 2 * MARGIN)
    return Window(columns[0] + (width - side) / 2, rows[0] + (height - side) / 2, side)


def input_panels(frames: NDArray[np.uint8], size_px: int) -> Callable[[Picture], Picture]:
    """What makes a square picture of a frame of `(T, H, W, 3|4)`: their window, on the background.

    RGBA frames show only their subject, as large as in the rendered views; others are shown whole,
    with round corners.
    """
    behind, window = background(size_px), input_window(frames)
    if _is_cut_out(frames):
        return partial(_subject_panel, window=window, behind=behind)
    scale = size_px / window.side
    height, width = (2 * max(1, round(side * scale / 2)) for side in frames.shape[1:3])  # centred
    mask = _round_corners((width, height), size_px * _CORNER)
    return partial(_frame_panel, mask=mask, behind=behind)


def _is_cut_out(frames: NDArray[np.uint8]) -> bool:
    return bool(frames.shape[3] == 4 and frames[..., 3].min() < 255)


def _subject_panel(frame: Picture, window: Window, behind: NDArray[np.float32]) -> Picture:
    left, top, side = window
    size_px = len(behind)
    # colours weighted by alpha, so that hidden colours do not mix into the edges
    alpha = cv2.cvtColor(frame[..., 3], cv2.COLOR_GRAY2RGB)
    premultiplied = np.dstack([cv2.multiply(frame[..., :3], alpha, scale=1 / 255), frame[..., 3]])
    scale = size_px / side
    blur_px = 0.45 * max(0.0, 1 / scale - 1)
    if blur_px > 0.2:
        premultiplied = cv2.GaussianBlur(premultiplied, (0, 0), blur_px)
    # pixel centres to pixel centres
    place = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    place[:, 2] += 0.5 * scale - 0.5
    laid = cv2.warpAffine(premultiplied, place, (size_px, size_px), flags=cv2.INTER_CUBIC)
    mixed = laid[..., :3] + behind * (1 - laid[..., 3:] / np.float32(255))
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)


def _round_corners(shape: tuple[int, int], radius_px: float) -> NDArray[np.float32]:
    """Coverage `(h, w, 1)` of a rectangle of (w, h) with round corners, edges smooth."""
    width, height = shape
    x = np.abs(np.arange(width) + 0.5 - width / 2) - (width / 2 - radius_px)
    y = np.abs(np.arange(height) + 0.5 - height / 2) - (height / 2 - radius_px)
    beyond = np.hypot(np.maximum(x, 0)[None], np.maximum(y, 0)[:, None])
    return np.asarray(np.clip(radius_px - beyond + 0.5, 0, 1), np.float32)[..., None]


def _frame_panel(frame: Picture, mask: NDArray[np.float32], behind: NDArray[np.float32]) -> Picture:
    frame, (height, width) = np.ascontiguousarray(frame[..., :3]), mask.shape[:2]
    how = cv2.INTER_AREA if frame.shape[1] > width else cv2.INTER_CUBIC
    laid = cv2.resize(frame, (width, height), interpolation=how)
    panel = behind.copy()
    top, left = (len(panel) - height) // 2, (len(panel) - width) // 2
    part = panel[top : top + height, left : left + width]
    part += (laid - part) * mask
    return np.asarray(panel + 0.5, np.uint8)
