"""A clip as the two looks see it: its frames, its motion, and the net, with boxes to look into.

Boxes are float64 `(4,)` or `(T, 4)`: left, top, right, bottom in pixels of a frame. Called by
two_looks.py and follow.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

from subject.model import Model
from subject.motion import Scene, vote
from subject.plain_background import fill_pinholes
from video.fields import Field, Mask

Boxes = NDArray[np.float64]
PixelBox = tuple[int, int, int, int]

_LEAST_SIDE = 0.2
"""Of what is looked at, in shorter sides of the frame: in less the net sees blur only."""
_SMALL_PART = 0.08
"""Parts of less than this share of the largest one are dropped."""
_RIM_STEEPNESS = 4.0
"""Of alpha over probability: 1 pixel of soft rim at the net's usual edge."""


@dataclass(frozen=True)
class Look:
    """What the net answered about one part of a frame: `field` as the net gives it, `part` in
    whole pixels."""

    field: Field
    part: PixelBox


@dataclass(frozen=True)
class View:
    """`frames` uint8 RGB(A) `(T, H, W, C)`; `motion` is the speed relative to the camera, at the
    scene's size; `tick` is called after each look."""

    frames: NDArray[np.uint8]
    scene: Scene
    motion: list[Field]
    model: Model
    tick: Callable[[], None]

    @property
    def count(self) -> int:
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a frame."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def small(self) -> tuple[int, int]:
        """Width and height of the scene's fields."""
        return self.scene.grid.shape[1], self.scene.grid.shape[0]

    @property
    def scale(self) -> float:
        """Frame pixels per pixel of the scene's fields."""
        return self.size[0] / self.small[0]

    def look(self, t: int, part: PixelBox, mirrored: bool = False) -> Look:
        """Ask the net about a part of frame `t`, as it is or mirrored left to right."""
        left, top, right, bottom = part
        way = -1 if mirrored else 1
        picture = np.ascontiguousarray(self.frames[t, top:bottom, left:right, :3][:, ::way])
        found = Look(np.ascontiguousarray(self.model.look(picture)[:, ::way]), part)
        self.tick()
        return found

    def around(self, box: Boxes, growth: float) -> PixelBox:
        """The square around a box, `growth` times its longer side, cut at the frame's edges."""
        left, top, right, bottom = box
        side = max(max(right - left, bottom - top) * growth, _LEAST_SIDE * min(self.size))
        middle = np.clip(((left + right) / 2, (top + bottom) / 2), 0, self.size)
        low = (int(max(0, at - side / 2)) for at in middle)
        high = (
            int(np.ceil(min(end, at + side / 2))) for at, end in zip(middle, self.size, strict=True)
        )
        return (*low, *high)  # type: ignore[return-value]

    def whole(self) -> PixelBox:
        """The whole frame, as a part."""
        return 0, 0, *self.size

    def shrunk(self, look: Look) -> Field:
        """A look at the scene's size; 0 outside of its part."""
        placed = self.placed(look)
        return np.asarray(cv2.resize(placed, self.small, interpolation=cv2.INTER_AREA))

    def placed(self, look: Look) -> Field:
        """A look at the frame's size; 0 outside of its part."""
        left, top, right, bottom = look.part
        out = np.zeros(self.frames.shape[1:3], np.float32)
        out[top:bottom, left:right] = cv2.resize(look.field, (right - left, bottom - top))
        return out

    def boxes_of(self, small: list[PixelBox | None]) -> Boxes | None:
        """Boxes at the scene's size as a steady track in frame pixels; None if all are missing.

        Missing ones lie between their neighbours. A median over five frames drops wrong ones.
        """
        boxes = np.array([box or (np.nan,) * 4 for box in small], float)
        known = np.flatnonzero(~np.isnan(boxes[:, 0]))
        if not len(known):
            return None
        for side in range(4):
            boxes[:, side] = np.interp(np.arange(len(boxes)), known, boxes[known, side])
        boxes *= self.scale
        steady = median_filter(boxes, size=(5, 1), mode="nearest")
        return np.asarray(gaussian_filter1d(steady, 1.0, axis=0, mode="nearest"))


@dataclass(frozen=True)
class Answer:
    """`alphas` uint8 `(T, H, W)`. `confidence` 0..1 is how decided the net was about it.

    `others` are boxes of other things in the first frame that could be the subject.
    """

    alphas: NDArray[np.uint8]
    confidence: float
    others: tuple[PixelBox, ...] = ()


_OF_LOOK = 0.6
"""The look's share in the mix with the vote: it is sharp, the vote is steady."""
_LOOK_IN_VOTE = 0.7
_LEAST_PEAK = 0.2
"""Looks that agree on less have found nothing."""


def mix(view: View, looks: list[Look], before: list[Field]) -> Answer | None:
    """Masks from a look into every frame and what was known before, at the scene's size.

    None if the net sees nothing in most frames. Frames in which it is weak, as in smoke, get a
    lower threshold.
    """
    small = [view.shrunk(look) for look in looks]
    joined = [
        _LOOK_IN_VOTE * now + (1 - _LOOK_IN_VOTE) * old
        for now, old in zip(small, before, strict=True)
    ]
    alphas = np.zeros(view.frames.shape[:3], np.uint8)
    decided, peaks = [], []
    for t, (look, steady) in enumerate(zip(looks, vote(view.scene, joined), strict=True)):
        left, top, right, bottom = look.part
        here = np.s_[top:bottom, left:right]
        voted = cv2.resize(steady, view.size, interpolation=cv2.INTER_LINEAR)[here]
        closer = cv2.resize(look.field, (right - left, bottom - top))
        likely = _OF_LOOK * closer + (1 - _OF_LOOK) * voted
        peaks.append(peak(likely))
        alphas[t][here] = _alpha(likely / max(peaks[-1], _LEAST_PEAK))
        decided.append(decidedness(likely))
    if float(np.median(peaks)) < _LEAST_PEAK:
        return None
    return Answer(alphas, float(np.mean(decided)))


def peak(likely: Field) -> float:
    """The most that the net is sure of anywhere; near 1 where it sees something."""
    return float(np.percentile(likely, 99.8))


def decidedness(likely: Field) -> float:
    """1 if every pixel that may be the subject surely is or surely is not; 0 if all are at .5."""
    maybe = likely[likely > 0.1]
    return float(2 * np.abs(maybe - 0.5).mean()) if len(maybe) else 0.0


def _alpha(likely: Field) -> NDArray[np.uint8]:
    """0..255 with a soft rim; small parts are dropped, pinholes filled."""
    mask = _large_parts(likely > 0.5)
    ramp = np.clip(_RIM_STEEPNESS * (likely - 0.5) + 0.5, 0, 1)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    filled = np.maximum(ramp, mask & (likely <= 0.5)) * near
    return np.asarray(np.round(255 * filled), np.uint8)


def _large_parts(mask: Mask) -> Mask:
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    return fill_pinholes(np.asarray((area > _SMALL_PART * area.max())[label]), 0.002)
