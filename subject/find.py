"""Finds the subject in every frame of a clip: the step before the mesh, and the least certain one.

Ways, the most reliable first: the clip's alpha channel, a plain background, and motion with
GrabCut. The result is checked: NoSubjectFound where it is no subject, warnings where it is
doubtful. Called by child/recipe.py and by pipelines; makes no mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import Reporter, SubjectChoice
from subject.motion_grabcut import MotionSegmentation, segment_by_motion
from subject.plain_background import fit_background, subject_mask
from video.clip import Clip
from video.fields import Mask
from video.sizes import SEGMENTED_PX, segmented_size

_TRANSPARENT_SHARE = 0.005
"""An alpha channel is used if at least this share of the clip's pixels is transparent."""
_LEAST_COVERAGE = 0.001
_MOST_COVERAGE = 0.90
_MOST_MISSING = 0.25
_WORTH_ZOOMING = 0.6
_LEAST_CONTRAST = 0.19
_LEAST_CONTRAST_IN_PIECES = 0.25
_LEAST_MOTION_PX = 0.30

Images = list[NDArray[np.uint8]]
"""A part of every frame at working size, RGB `(h, w, 3)`."""
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of a frame; right and bottom are one past the end."""


@dataclass(frozen=True)
class Subject:
    """The clip with alpha, and how it was found: alpha, plain_background or motion_grabcut.

    `confidence` is from 0 to 1; 1 where nothing had to be guessed.
    """

    clip: Clip
    method: str
    confidence: float = 1.0


def find_subject(
    clip: Clip,
    choice: SubjectChoice | None,  # noqa: ARG001 - followed by the model, which comes next
    reporter: Reporter,
) -> Subject:
    """The subject, or the one that `choice` names. Reports stage background.

    Raises NoSubjectFound. Warnings: low_confidence_segmentation, subject_touches_border,
    subject_area_changes, several_subjects.
    """
    count = len(clip)
    reporter.progress("background", 0, count, "looking for the subject")

    def tick(step: int) -> None:
        reporter.progress("background", step, count)

    if has_usable_alpha(clip):
        found = Subject(clip, "alpha")
    else:
        found = _from_plain_background(clip, tick) or _from_motion(clip, reporter, tick)
    alphas = found.clip.frames[..., 3]
    coverage = np.array([float((alpha > 127).mean()) for alpha in alphas])
    _check_coverage(coverage, found.method, clip)
    _warn(alphas, coverage, reporter)
    tick(count)
    return found


def has_usable_alpha(clip: Clip) -> bool:
    """False if the clip has no alpha, or one that is opaque (nearly) everywhere."""
    if not clip.has_alpha:
        return False
    clear = sum(int(np.count_nonzero(frame[..., 3] < 128)) for frame in clip.frames)
    return clear >= _TRANSPARENT_SHARE * clip.frames[..., 3].size


def _from_motion(clip: Clip, reporter: Reporter, tick: Callable[[int], None]) -> Subject:
    motion = segment_by_motion(_resized(clip.frames, _whole(clip)), tick)
    cutout = Cutout(_soft(motion.masks, 1.0), _whole(clip))
    _check_motion(motion, _usual_pieces(cutout.alphas))
    reporter.warning(
        "low_confidence_segmentation",
        "The background is not plain and the clip has no alpha channel: the subject was "
        "found by its motion and colour, and may contain background or lack parts.",
    )
    return Subject(cutout.onto(clip), "motion_grabcut", 0.5)


# --- a plain background


@dataclass(frozen=True)
class Cutout:
    """`alphas` uint8 `(T, h, w)` of a part of the frames, coarser or finer than their pixels."""

    alphas: NDArray[np.uint8]
    box: Box

    @property
    def scale(self) -> float:
        """Alpha pixels per pixel of the frame."""
        return float(self.alphas.shape[2] / (self.box[2] - self.box[0]))

    def onto(self, clip: Clip) -> Clip:
        """The clip with these alphas in its frames' size; 0 outside of the box."""
        left, top, right, bottom = self.box
        size = (right - left, bottom - top)
        how = cv2.INTER_AREA if self.scale > 1 else cv2.INTER_LINEAR
        out = np.zeros(clip.frames.shape[:3], np.uint8)
        for whole, alpha in zip(out, self.alphas, strict=True):
            whole[top:bottom, left:right] = cv2.resize(alpha, size, interpolation=how)
        return clip.with_alpha(out)


def _whole(clip: Clip) -> Box:
    _, height, width, _ = clip.frames.shape
    return 0, 0, width, height


def _resized(frames: NDArray[np.uint8], box: Box) -> Images:
    """The box of every frame, resized one frame at a time."""
    left, top, right, bottom = box
    size = segmented_size(right - left, bottom - top)
    how = cv2.INTER_AREA if size.width < right - left else cv2.INTER_CUBIC
    parts = (frame[top:bottom, left:right, :3] for frame in frames)
    return [cv2.resize(part, size, interpolation=how) for part in parts]


def _from_plain_background(clip: Clip, tick: Callable[[int], None]) -> Subject | None:
    """Masks against each frame's own background; None where most frames have none.

    A subject that is small in a large frame is segmented again in a crop around it.
    """
    whole = _whole(clip)
    cutout = _segment_box(_resized(clip.frames, whole), whole, tick)
    longer = max(whole)
    if cutout is None:
        return None
    if longer > SEGMENTED_PX[1]:
        box = _surroundings(cutout, whole)
        if box and max(box[2] - box[0], box[3] - box[1]) <= _WORTH_ZOOMING * longer:
            cutout = _segment_box(_resized(clip.frames, box), box, tick) or cutout
    return Subject(cutout.onto(clip), "plain_background")


def _segment_box(images: Images, box: Box, tick: Callable[[int], None]) -> Cutout | None:
    count = len(images)
    backgrounds = []
    for t, image in enumerate(images):
        backgrounds.append(fit_background(image))
        tick(t // 2)
    if sum(background.is_plain for background in backgrounds) <= 0.5 * count:
        return None
    masks = []
    for t, (image, background) in enumerate(zip(images, backgrounds, strict=True)):
        masks.append(subject_mask(image, background))
        tick((count + t) // 2)
    return Cutout(_soft(masks, 0.8), box)


def _surroundings(cutout: Cutout, whole: Box) -> Box | None:
    """The box around the subject in all frames, a quarter larger on each side."""
    x, y, width, height = cv2.boundingRect((cutout.alphas.max(axis=0) > 127).astype(np.uint8))
    if not width:
        return None
    margin = 0.25 * max(width, height) + 8
    low = np.floor((np.array([x, y]) - margin) / cutout.scale).astype(int)
    high = np.ceil((np.array([x + width, y + height]) + margin) / cutout.scale).astype(int)
    left, top = np.maximum(low, 0).tolist()
    right, bottom = np.minimum(high, whole[2:]).tolist()
    return left, top, right, bottom


def _soft(masks: list[NDArray[np.bool_]], sigma: float) -> NDArray[np.uint8]:
    """Masks with a soft rim, uint8 `(T, h, w)`."""
    return np.stack([cv2.GaussianBlur(np.uint8(255) * mask, (0, 0), sigma) for mask in masks])


# --- is it a subject?


def _check_coverage(coverage: NDArray[np.float64], method: str, clip: Clip) -> None:
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
        first, last = clip.source.used[begin], clip.source.used[end - 1]
        rate = clip.source.fps
        seconds = f" ({first / rate:.1f} s to {last / rate:.1f} s)" if rate else ""
        found.append(f"frames {begin + 1} to {end}{seconds}")
    return ", ".join(found)


def _check_motion(motion: MotionSegmentation, pieces: float) -> None:
    least = _LEAST_CONTRAST_IN_PIECES if pieces > 1 else _LEAST_CONTRAST
    if motion.contrast >= least and motion.motion_px >= _LEAST_MOTION_PX:
        return
    raise NoSubjectFound(
        "The background is not plain, and nothing in the picture stands out as one moving subject "
        f"(contrast {motion.contrast:.2f}, needed {least:.2f}; "
        f"motion {motion.motion_px:.2f} px per frame, needed {_LEAST_MOTION_PX:.2f}).",
        method="motion_grabcut",
        contrast=round(motion.contrast, 3),
        min_contrast=least,
        motion_px=round(motion.motion_px, 3),
        min_motion_px=_LEAST_MOTION_PX,
    )


def _usual_pieces(alphas: NDArray[np.uint8]) -> float:
    return float(np.median([_pieces(alpha > 127) for alpha in alphas]))


def _pieces(mask: Mask) -> int:
    """Components of at least a fifth of the largest one."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int(np.count_nonzero(areas > 0.2 * areas.max())) if len(areas) else 0


def _warn(alphas: NDArray[np.uint8], coverage: NDArray[np.float64], reporter: Reporter) -> None:
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
    pieces = _usual_pieces(alphas)
    if pieces > 1:
        reporter.warning(
            "several_subjects",
            f"{pieces:.0f} separate subjects were found; they are parts of one mesh.",
        )


def _touch(mask: Mask) -> float:
    """The largest share of one edge of the frame that the mask lies on."""
    return max(float(edge.mean()) for edge in (mask[:, 0], mask[0], mask[:, -1], mask[-1]))
