"""Segments the subject in every frame: the first step of the pipeline, and the least certain one.

Three methods, the most reliable first: the clip's alpha channel, a plain background, and motion
with GrabCut. The result is checked: NoSubjectFound where it is no subject, warnings where it is
doubtful. Called by pipeline.py; makes no mesh.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import Reporter
from silhouette.crop import Box, Cutout
from silhouette.motion_grabcut import MotionSegmentation, segment_by_motion
from silhouette.plain_background import fit_background, subject_mask
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


def segment_subject(frames: NDArray[np.uint8], reporter: Reporter) -> Cutout:
    """The subject's alphas from frames uint8 `(T, H, W, 3|4)`.

    Raises NoSubjectFound. Warnings: low_confidence_segmentation, subject_touches_border,
    subject_area_changes, several_subjects.
    """
    count, height, width, _ = frames.shape
    whole = (0, 0, width, height)
    reporter.progress("background", 0, count, "looking for the subject")

    def tick(step: int) -> None:
        reporter.progress("background", step, count)

    cutout = _from_alpha(frames, whole)
    motion: MotionSegmentation | None = None
    if cutout is None:
        images = _resized(frames, whole)
        cutout = _from_plain_background(frames, images, whole, tick)
        if cutout is None:
            motion = segment_by_motion(images, tick)
            cutout = Cutout(_soft(motion.masks, 1.0), whole, "motion_grabcut")
    coverage = _coverage(cutout, whole)
    _check_coverage(coverage, cutout.method)
    pieces = float(np.median([_pieces(alpha > 127) for alpha in cutout.alphas]))
    if motion is not None:
        _check_motion(motion, pieces)
        reporter.warning(
            "low_confidence_segmentation",
            "The background is not plain and the clip has no alpha channel: the subject was "
            "found by its motion and colour, and may contain background or lack parts.",
        )
    _warn(cutout, coverage, whole, pieces, reporter)
    tick(count)
    return cutout


def _from_alpha(frames: NDArray[np.uint8], whole: Box) -> Cutout | None:
    """The clip's own alpha, unless it is opaque (nearly) everywhere."""
    if frames.shape[3] != 4:
        return None
    clear = sum(int(np.count_nonzero(frame[..., 3] < 128)) for frame in frames)
    if clear < _TRANSPARENT_SHARE * frames[..., 3].size:
        return None
    return Cutout(frames[..., 3], whole, "alpha")


def _resized(frames: NDArray[np.uint8], box: Box) -> Images:
    """The box of every frame, resized one frame at a time."""
    left, top, right, bottom = box
    size = segmented_size(right - left, bottom - top)
    how = cv2.INTER_AREA if size.width < right - left else cv2.INTER_CUBIC
    parts = (frame[top:bottom, left:right, :3] for frame in frames)
    return [cv2.resize(part, size, interpolation=how) for part in parts]


def _from_plain_background(
    frames: NDArray[np.uint8], images: Images, whole: Box, tick: Callable[[int], None]
) -> Cutout | None:
    """Masks against each frame's own background; None where most frames have none.

    A subject that is small in a large frame is segmented again in a crop around it.
    """
    cutout = _segment_box(images, whole, tick)
    longer = max(whole)
    if cutout is None or longer <= SEGMENTED_PX[1]:
        return cutout
    box = _surroundings(cutout, whole)
    if box is None or max(box[2] - box[0], box[3] - box[1]) > _WORTH_ZOOMING * longer:
        return cutout
    return _segment_box(_resized(frames, box), box, tick) or cutout


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
    return Cutout(_soft(masks, 0.8), box, "plain_background")


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


def _coverage(cutout: Cutout, whole: Box) -> NDArray[np.float64]:
    """The subject's share of each whole frame, `(T,)`."""
    left, top, right, bottom = cutout.box
    share = (right - left) * (bottom - top) / (whole[2] * whole[3])
    return np.array([share * float((alpha > 127).mean()) for alpha in cutout.alphas])


def _check_coverage(coverage: NDArray[np.float64], method: str) -> None:
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
            f"The subject is missing in {missing} of {len(coverage)} frames; "
            f"at most {_MOST_MISSING:.0%} is allowed.",
            hint="Cut the clip to the part in which the subject is in the picture.",
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


def _pieces(mask: NDArray[np.bool_]) -> int:
    """Components of at least a fifth of the largest one."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    return int(np.count_nonzero(areas > 0.2 * areas.max())) if len(areas) else 0


def _warn(
    cutout: Cutout, coverage: NDArray[np.float64], whole: Box, pieces: float, reporter: Reporter
) -> None:
    usual = float(np.median(coverage))
    if coverage.min() < 0.5 * usual or coverage.max() > 2 * usual:
        reporter.warning(
            "subject_area_changes",
            f"The subject covers between {coverage.min():.1%} and {coverage.max():.1%} of the "
            "picture: the mesh keeps its topology and will stretch.",
        )
    touching = max(_touch(alpha > 127, cutout.box, whole) for alpha in cutout.alphas)
    if touching > 0.02:
        reporter.warning(
            "subject_touches_border",
            f"The subject is cut by the edge of the picture ({touching:.0%} of one edge): "
            "what lies outside is missing from the mesh.",
        )
    if pieces > 1:
        reporter.warning(
            "several_subjects",
            f"{pieces:.0f} separate subjects were found; they are parts of one mesh.",
        )


def _touch(mask: NDArray[np.bool_], box: Box, whole: Box) -> float:
    """The largest share of one edge of the frame that the mask lies on."""
    left, top, right, bottom = (side == end for side, end in zip(box, whole, strict=True))
    # the mask may have another size than its box in the frame
    across, down = (box[2] - box[0]) / whole[2], (box[3] - box[1]) / whole[3]
    return max(
        float(mask[:, 0].mean()) * down if left else 0.0,
        float(mask[0].mean()) * across if top else 0.0,
        float(mask[:, -1].mean()) * down if right else 0.0,
        float(mask[-1].mean()) * across if bottom else 0.0,
    )
