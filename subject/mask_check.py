"""Do masks that another program made fit what moves in the clip? A measure, and the warning.

It only doubts, and chooses nothing. Called by upstream/background.py for RMBG's masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline import Reporter
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
    side = 2 * _RIM_PX + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    grown = cv2.dilate(mask.astype(np.uint8), disk) > 0
    return bool(grown[moving].mean() < grown.mean())
