"""Is it a subject? The errors and warnings about masks that were found. Called by find.py."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import Reporter
from subject.motion_grabcut import MotionSegmentation
from subject.view import PixelBox
from video.clip import Clip
from video.fields import Mask

LEAST_MOTION_PX = 0.30
"""Speed of a subject's fastest parts, in pixels of a picture 256 wide: camera shake and noise leave
less after the camera's motion is taken away."""
_LEAST_COVERAGE = 0.001
_MOST_COVERAGE = 0.90
_MOST_MISSING = 0.25
_LEAST_CONTRAST = 0.19
_LEAST_CONTRAST_IN_PIECES = 0.25
_LEAST_BOX = 0.011
"""Of the picture; rounded to three decimals, it is still at least 1 %."""
_A_PIECE = 0.2
"""Of the largest piece's area."""


def check_coverage(clip: Clip, alphas: NDArray[np.uint8], method: str) -> None:
    """Raises NoSubjectFound where there is too little, or too much, of a subject."""
    coverage = _coverage(alphas)
    missing = int(np.count_nonzero(coverage < _LEAST_COVERAGE))
    facts: dict[str, Any] = {"method": method, "frames": len(coverage)}
    if missing == len(coverage):
        raise NoSubjectFound(
            f"No subject was found in any of the {len(coverage)} frames "
            f"(it must cover {_LEAST_COVERAGE:.1%} of the picture).",
            frames_without_subject=missing,
            min_coverage=_LEAST_COVERAGE,
            **facts,
        )
    if missing > _MOST_MISSING * len(coverage):
        raise NoSubjectFound(
            f"The subject is missing in {missing} of {len(coverage)} frames; at most "
            f"{_MOST_MISSING:.0%} is allowed. It is there in "
            f"{_where(coverage >= _LEAST_COVERAGE, clip)}.",
            hint="Cut the clip to the part in which the subject is in the picture, or send the "
            "second at which that part begins as `start`, and `fps` for closer frames.",
            frames_without_subject=missing,
            **facts,
        )
    filled = float(np.median(coverage))
    if filled > _MOST_COVERAGE:
        raise NoSubjectFound(
            f"The subject fills {filled:.0%} of the picture; the limit is {_MOST_COVERAGE:.0%}.",
            hint="Leave a margin around the subject.",
            coverage=round(filled, 3),
            max_coverage=_MOST_COVERAGE,
            **facts,
        )


def _where(there: Mask, clip: Clip) -> str:
    """Which of the frames used these are, from 1; of a video with their seconds."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], there.astype(np.int8), [0]))))
    found = []
    for begin, end in edges.reshape(-1, 2).tolist():
        times = clip.seconds
        seconds = f" ({times[begin]:.1f} s to {times[end - 1]:.1f} s)" if times else ""
        found.append(f"frames {begin + 1} to {end}{seconds}")
    return ", ".join(found)


def check_motion(motion: MotionSegmentation, alphas: NDArray[np.uint8]) -> None:
    """Raises NoSubjectFound, naming what is too low, unless motion has found one clear thing."""
    least = _LEAST_CONTRAST_IN_PIECES if _usual_pieces(alphas) > 1 else _LEAST_CONTRAST
    lacks = []
    if motion.contrast < least:
        lacks.append(f"contrast {motion.contrast:.3f}, needed {least:.2f}")
    if motion.motion_px < LEAST_MOTION_PX:
        lacks.append(f"motion {motion.motion_px:.2f} px per frame, needed {LEAST_MOTION_PX:.2f}")
    if not lacks:
        return
    raise NoSubjectFound(
        "The background is not plain, and nothing in the picture stands out as one moving subject "
        f"({'; '.join(lacks)}).",
        method="motion_grabcut",
        contrast=round(motion.contrast, 3),
        min_contrast=least,
        motion_px=round(motion.motion_px, 3),
        min_motion_px=LEAST_MOTION_PX,
    )


def warn_about(alphas: NDArray[np.uint8], others: tuple[PixelBox, ...], reporter: Reporter) -> None:
    """Warnings that hold for masks of any origin; `others` are not in the masks."""
    coverage = _coverage(alphas)
    usual = float(np.median(coverage))
    if coverage.min() < 0.5 * usual or coverage.max() > 2 * usual:
        reporter.warning(
            "subject_area_changes",
            f"The subject covers between {coverage.min():.1%} and {coverage.max():.1%} of the "
            "picture: the mesh keeps its topology and will stretch.",
        )
    touching = max(_touch(alpha > 127) for alpha in alphas)
    if touching > 0.02:
        reporter.warning(
            "subject_touches_border",
            f"The subject is cut by the edge of the picture ({touching:.0%} of one edge): "
            "what lies outside is missing from the mesh.",
        )
    _warn_of_several(alphas, others, reporter)


def _warn_of_several(
    alphas: NDArray[np.uint8], others: tuple[PixelBox, ...], reporter: Reporter
) -> None:
    own = boxes_of_pieces(alphas[0] > 127)
    pieces = _usual_pieces(alphas)
    boxes = own + [as_fractions(box, alphas.shape[1:]) for box in others]
    if pieces > 1:
        message = f"{pieces:.0f} separate subjects were found; they are parts of one mesh."
    elif others:
        message = (
            f"{1 + len(others)} things could be the subject; the one that moves most was taken. "
            "Send another one's box as subject_box to get that."
        )
    else:
        return
    reporter.warning("several_subjects", message, boxes=boxes)


def boxes_of_pieces(mask: Mask) -> list[str]:
    """Every large piece's box as `subject_box` takes it, the largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    pieces = sorted(stats[1:].tolist(), key=lambda piece: -piece[cv2.CC_STAT_AREA])
    return [
        as_fractions((left, top, left + width, top + height), mask.shape)
        for left, top, width, height, area in pieces
        if area > _A_PIECE * pieces[0][cv2.CC_STAT_AREA]
    ]


def as_fractions(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> str:
    """A box in pixels of a picture `shape` as `subject_box` takes it: no side under 1 %."""
    height, width = shape
    left, top, right, bottom = np.divide(box, (width, height, width, height)).clip(0, 1)
    left, top = min(left, 1 - _LEAST_BOX), min(top, 1 - _LEAST_BOX)
    right, bottom = max(right, left + _LEAST_BOX), max(bottom, top + _LEAST_BOX)
    return ",".join(f"{at:.3f}" for at in (left, top, right, bottom))


def _coverage(alphas: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.array([float((alpha > 127).mean()) for alpha in alphas])


def _usual_pieces(alphas: NDArray[np.uint8]) -> float:
    return float(np.median([len(boxes_of_pieces(alpha > 127)) for alpha in alphas]))


def _touch(mask: Mask) -> float:
    """The largest share of one edge of the frame that the mask lies on."""
    return max(float(edge.mean()) for edge in (mask[:, 0], mask[0], mask[:, -1], mask[-1]))
