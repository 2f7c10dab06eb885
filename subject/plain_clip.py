"""Masks of a whole clip in front of a plain background, frame by frame. Called by find.py."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from subject.cutout import Box, Cutout, Images, resized, softened, whole_frame
from subject.plain_background import fit_background, subject_mask
from video.clip import Clip
from video.cores import in_order
from video.sizes import SEGMENTED_PX

_WORTH_ZOOMING = 0.6
_PALETTE = 256
"""A GIF's frame has no more colours than this: it may show a wall as dots of two or three."""
_DOTS_PX = 1.2
"""Blur that turns those dots into their mean. With it a dithered wall fits as others do."""


def cut_from_plain_background(clip: Clip, tick: Callable[[int], None]) -> NDArray[np.uint8] | None:
    """The clip's alphas `(T, H, W)`; None where most frames have no plain background.

    A subject that is small in a large frame is segmented again in a crop around it.
    """
    cutout = _segment_frames(clip.frames, tick)
    return None if cutout is None else cutout.onto(clip)


def cut_from_dotted_background(clip: Clip, tick: Callable[[int], None]) -> NDArray[np.uint8] | None:
    """The same for frames of few colours, where a plain wall may be dots of two or three.

    So may a pattern: ask the net, too.
    """
    if not _has_a_palette(clip.frames[0]):
        return None
    cutout = _segment_frames(_without_dots(clip.frames), tick)
    return None if cutout is None else cutout.onto(clip)


def _segment_frames(frames: NDArray[np.uint8], tick: Callable[[int], None]) -> Cutout | None:
    whole = whole_frame(frames)
    cutout = _segment_box(resized(frames, whole), whole, tick)
    longer = max(whole)
    if cutout is None or longer <= SEGMENTED_PX[1]:
        return cutout
    box = _surroundings(cutout, whole)
    if box is None or max(box[2] - box[0], box[3] - box[1]) > _WORTH_ZOOMING * longer:
        return cutout
    return _segment_box(resized(frames, box), box, tick) or cutout


def _has_a_palette(frame: NDArray[np.uint8]) -> bool:
    red, green, blue = (frame[..., k].astype(np.int32) for k in range(3))
    return len(np.unique(red << 16 | green << 8 | blue)) <= _PALETTE


def _without_dots(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.stack([cv2.GaussianBlur(frame[..., :3], (0, 0), _DOTS_PX) for frame in frames])


def _segment_box(images: Images, box: Box, tick: Callable[[int], None]) -> Cutout | None:
    count = len(images)
    backgrounds = []
    for t, background in enumerate(in_order(fit_background, images)):
        backgrounds.append(background)
        tick(t // 2)
    if sum(background.is_plain for background in backgrounds) <= 0.5 * count:
        return None
    masks = []
    for t, mask in enumerate(
        in_order(lambda t: subject_mask(images[t], backgrounds[t]), range(count))
    ):
        masks.append(mask)
        tick((count + t) // 2)
    return Cutout(softened(masks, 0.8), box)


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
