"""Do masks fit what moves in the clip? Measures, and the warning for another program's masks.

It only doubts, and chooses nothing. Called by find.py, and by upstream/background.py for RMBG's
masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import Reporter
from subject.checks import LEAST_MOTION_PX
from subject.motion import measure_scene, residual_motion
from video.fields import Field, Mask

_MOVES_PX = 1.0
"""Of pixels of `flow_size` per frame, against the camera."""
_LEAST_MOVING, _MOST_MOVING = 0.005, 0.40
"""Shares of the picture. If more moves, the camera's motion was not understood (water, trees close
to the camera), and motion says nothing about the mask."""
_RIM_PX = 4
"""Motion is blurred across the subject's edge by as much."""
_MOST_FRAMES_OUTSIDE = 0.5
"""Share of frames. 25 clips with right masks (DAVIS 2016, alpha, plain and busy) reach 0.25. Of
64 wrong masks (mirrored, moved, inverted) 27 exceed it; with the others too much moves."""
_LEAST_DECIDED = 0.75
"""As for the model's own masks: at 0.75 and more their mean IoU is 0.91, below it 0.64."""

_MOST_FAR = 0.12
"""If more of what is far from the subject moves (water, parallax), motion says nothing."""
_EDGE_PX = 8
"""Of the picture: the flow is wrong where the camera uncovers new parts."""


@dataclass(frozen=True)
class MaskCheck:
    """`decided`: 1 where every pixel is surely subject or surely background, 0 where all are half.
    `outside`: the share of frames in which what moves lies outside of the mask."""

    decided: float
    outside: float

    def warn(self, maker: str, reporter: Reporter) -> None:
        """The warning low_confidence_segmentation, if the masks of `maker` are doubtful."""
        doubts = []
        if self.decided < _LEAST_DECIDED:
            doubts.append(
                f"it was not sure which pixels are the subject ({self.decided:.2f} on a scale "
                f"from 0 to 1, needed {_LEAST_DECIDED})"
            )
        if self.outside > _MOST_FRAMES_OUTSIDE:
            doubts.append(f"in {self.outside:.0%} of the frames what moves is outside of its mask")
        if doubts:
            reporter.warning(
                "low_confidence_segmentation",
                f"{maker} may have taken the wrong subject: {', and '.join(doubts)}. If it is "
                "wrong, choose the subject with subject_box or subject_point, or send frames with "
                "an alpha channel; the server's setting SUBJECT chooses another method.",
            )


def frames_moving_outside(frames: NDArray[np.uint8], alphas: NDArray[np.uint8]) -> float:
    """The share of frames in which less moves inside of the mask than the mask's area lets expect.

    `frames` are uint8 `(T, H, W, 3)` RGB, `alphas` uint8 `(T, H, W)`. 0.15 CPU s for 16 frames.
    """
    scene = measure_scene(list(frames), lambda _: None)
    speeds = residual_motion(scene)
    size = speeds[0].shape[1::-1]
    masks = [cv2.resize(alpha, size, interpolation=cv2.INTER_AREA) > 127 for alpha in alphas]
    return float(np.mean([_is_outside(*pair) for pair in zip(speeds, masks, strict=True)]))


def _is_outside(speed: Field, mask: Mask) -> bool:
    moving = speed > _MOVES_PX
    if not _LEAST_MOVING <= moving.mean() <= _MOST_MOVING:
        return False
    grown = _grown(mask, _RIM_PX)
    return bool(grown[moving].mean() < grown.mean())


def moving_beside(speeds: list[Field], masks: list[Mask]) -> float:
    """How much moves close to the masks but outside of them, in areas of the mask: a lost limb.

    The median over the frames. `speeds` as from residual_motion, `masks` at their size. 0 where
    motion says nothing.
    """
    frames = [_beside(*pair) for pair in zip(speeds, masks, strict=True) if pair[1].any()]
    if not frames:
        return 0.0
    beside, far = np.median(frames, axis=0)
    return float(beside) if far <= _MOST_FAR else 0.0


def _beside(speed: Field, mask: Mask) -> tuple[float, float]:
    """What moves close to the mask, in areas of the mask; the share of the rest that moves."""
    area = np.count_nonzero(mask)
    calm = cv2.GaussianBlur(speed, (0, 0), 1.5)
    moving = calm > max(LEAST_MOTION_PX, 0.5 * float(np.percentile(calm[mask], 75)))
    close = _grown(mask, max(2 * _RIM_PX, round(0.5 * area**0.5)))
    far = ~close
    far[:_EDGE_PX] = far[-_EDGE_PX:] = far[:, :_EDGE_PX] = far[:, -_EDGE_PX:] = False
    beside = np.count_nonzero(moving & close & ~_grown(mask, _RIM_PX)) / area
    return beside, float(moving[far].mean()) if far.any() else 1.0


def _grown(mask: Mask, reach: int) -> Mask:
    """The mask and what is up to `reach` pixels from it."""
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disk) > 0)
