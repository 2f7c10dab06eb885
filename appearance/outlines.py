"""Outlines as small masks: those of a clip's subject, cut out of its frames, and those of a mesh.

Used by fit.py, search.py, alignment.py and score.py. Pixel coordinates are those of meshes/view.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.view import View
from video.clip import Clip

Masks = NDArray[np.bool_]

_OPAQUE = 128
_MARGIN = 0.08
"""Room around the subject in a cut-out, as a share of its longer side."""


@dataclass(frozen=True)
class Box:
    """Pixels `left <= x < right`, `top <= y < bottom`; may reach out of the picture."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def middle(self) -> NDArray[np.float64]:
        return np.array([self.left + self.right, self.top + self.bottom]) / 2

    @property
    def longer_side(self) -> int:
        return max(self.right - self.left, self.bottom - self.top)

    def side_around(self, middle: NDArray[np.float64]) -> int:
        """The side of the least square around this middle that holds the box."""
        across = max(self.right - middle[0], middle[0] - self.left)
        down = max(self.bottom - middle[1], middle[1] - self.top)
        return int(np.ceil(2 * max(across, down)))

    def union(self, other: Box) -> Box:
        return Box(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class CutOuts:
    """The same square part of K frames, or parts of one size, in `masks` bool `(K, N, N)`.

    `coverage` uint8 `(K, N, N)` is the alpha they were made of. `known` bool `(K, N, N)` is False
    outside of the picture, where nobody can tell what is there. `timesteps` are the frames' places
    in the clip; `origins` `(K, 2)` the parts' upper left corners, in px of the clip's frames, which
    are `width` x `height`; `scale` is px of a mask per px of a frame.
    """

    coverage: NDArray[np.uint8]
    known: Masks
    timesteps: tuple[int, ...]
    origins: NDArray[np.float64]
    scale: float
    width: int
    height: int

    @property
    def masks(self) -> Masks:
        return np.asarray((self.coverage >= _OPAQUE) & self.known)

    @property
    def size_px(self) -> int:
        return int(self.coverage.shape[1])

    @property
    def principal(self) -> NDArray[np.float64]:
        """The middles of the pictures, `(K, 2)`, in px of the masks."""
        return np.asarray((np.array([self.width, self.height]) / 2 - self.origins) * self.scale)

    def some(self, places: Sequence[int]) -> CutOuts:
        """Those at these places only."""
        chosen = list(places)
        return replace(
            self,
            coverage=self.coverage[chosen],
            known=self.known[chosen],
            timesteps=tuple(self.timesteps[place] for place in chosen),
            origins=self.origins[chosen],
        )

    def resized(self, size_px: int) -> CutOuts:
        """The same parts with fewer pixels."""
        size = (size_px, size_px)
        smaller = [cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) for alpha in self.coverage]
        known = [
            cv2.resize(seen.view(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) >= _OPAQUE
            for seen in self.known
        ]
        scale = self.scale * size_px / self.size_px
        return replace(self, coverage=np.stack(smaller), known=np.stack(known), scale=scale)

    def pixels_of(self, view: View, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where the view of the clip's pictures sees points `(K, N, 3)`: `(K, N, 2)`, in px of
        the masks."""
        view = view.scaled_to(self.width, self.height)
        seen = [view.project(points[k], t) for k, t in enumerate(self.timesteps)]
        return np.asarray((np.stack(seen) - self.origins[:, None]) * self.scale, np.float32)


def subject_boxes(clip: Clip, tick: Callable[[], None]) -> list[Box | None]:
    """The box around each frame's subject; None where there is none."""
    boxes: list[Box | None] = []
    for frame in clip.frames:
        tick()
        opaque = frame[..., 3] >= _OPAQUE
        rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
        boxes.append(
            Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            if len(rows)
            else None
        )
    return boxes


def cut_out(
    clip: Clip, boxes: Sequence[Box], side: int, size_px: int, tick: Callable[[], None]
) -> CutOuts:
    """Squares of `side` px, and a margin, around the middles of boxes, one for each frame."""
    side = max(4, round(side * (1 + 2 * _MARGIN)))
    height, width = clip.frames.shape[1:3]
    corners = np.stack([np.floor(box.middle - side / 2) for box in boxes]).astype(int)
    middles = (np.arange(size_px) + 0.5) / size_px * side
    coverage, known = [], []
    for frame, (left, top) in zip(clip.frames, corners, strict=True):
        tick()
        coverage.append(_square(frame[..., 3], left, top, side, size_px))
        in_x, in_y = (
            (middles + start >= 0) & (middles + start < end)
            for start, end in ((left, width), (top, height))
        )
        known.append(in_y[:, None] & in_x)
    timesteps, scale = tuple(range(len(corners))), size_px / side
    origins = corners.astype(np.float64)
    return CutOuts(np.stack(coverage), np.stack(known), timesteps, origins, scale, width, height)


def _square(
    alpha: NDArray[np.uint8], left: int, top: int, side: int, size_px: int
) -> NDArray[np.uint8]:
    """A square of a picture `(H, W)`, 0 outside of it, at another size."""
    height, width = alpha.shape
    inner = alpha[max(top, 0) : max(top + side, 0), max(left, 0) : max(left + side, 0)]
    square = np.zeros((side, side), np.uint8)
    y, x = max(-top, 0), max(-left, 0)
    square[y : y + inner.shape[0], x : x + inner.shape[1]] = inner
    return np.asarray(
        cv2.resize(square, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8
    )


def overlaps(first: Masks, second: Masks, known: Masks) -> NDArray[np.float64]:
    """IoU `(K,)` of masks `(K, N, N)`, where something is known; 0 where both are empty."""
    both = (first & second & known).sum(axis=(1, 2))
    either = ((first | second) & known).sum(axis=(1, 2))
    return np.asarray(both / np.maximum(either, 1))


def drawn_outlines(points: NDArray[np.float32], faces: NDArray[np.int32], size_px: int) -> Masks:
    """Masks `(K, N, N)` of meshes whose vertices lie at `points` `(K, V, 2)`, in px.

    A pixel is True if its middle lies in a triangle. Each row of each triangle is a run of pixels:
    the number of runs around a pixel is the sum of their starts minus ends to its left.
    """
    return np.stack([_drawn(frame[faces], size_px) for frame in points])


def _drawn(triangles: NDArray[np.float32], size: int) -> Masks:
    """The mask `(N, N)` of triangles `(F, 3, 2)`."""
    order = np.argsort(triangles[..., 1], axis=1)
    x = np.take_along_axis(triangles[..., 0], order, axis=1)
    y = np.take_along_axis(triangles[..., 1], order, axis=1)
    first = np.ceil(np.clip(y[:, 0], 0, size) - 0.5).astype(np.int32)
    rows = np.ceil(np.clip(y[:, 2], 0, size) - 0.5).astype(np.int32) - first
    used = np.flatnonzero(rows > 0)
    owner = np.repeat(used, rows[used])
    before = np.cumsum(rows[used]) - rows[used]
    row = np.arange(len(owner)) - np.repeat(before, rows[used]) + first[owner]
    (xa, xb, xc), (ya, yb, yc) = x[owner].T, y[owner].T
    middle = (row + 0.5).astype(np.float32)
    long = xa + (xc - xa) * ((middle - ya) / (yc - ya))
    is_upper = middle < yb
    x0, y0 = np.where(is_upper, xa, xb), np.where(is_upper, ya, yb)
    x1, y1 = np.where(is_upper, xb, xc), np.where(is_upper, yb, yc)
    short = x0 + (x1 - x0) * ((middle - y0) / np.maximum(y1 - y0, 1e-9))
    start, end = (
        np.ceil(np.clip(edge, 0, size) - 0.5).astype(np.int32)
        for edge in (np.minimum(long, short), np.maximum(long, short))
    )
    stride, length = size + 1, size * (size + 1)
    runs = np.bincount(row * stride + start, minlength=length).astype(np.int64)
    runs -= np.bincount(row * stride + end, minlength=length)
    return np.asarray(np.cumsum(runs.reshape(size, stride), axis=1)[:, :size] > 0)
