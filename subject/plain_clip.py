"""Masks of a whole clip in front of a plain background, frame by frame. Called by find.py."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from subject.cutout import Box, Cutout, Images, resized, softened, whole_frame
from subject.plain_background import fit_background, subject_mask
from video.clip import Clip
from video.sizes import SEGMENTED_PX

_WORTH_ZOOMING = 0.6


def cut_from_plain_background(clip: Clip, tick: Callable[[int], None]) -> Clip | None:
    """The clip with alpha; None where most frames have no plain background.

    A subject that is small in a large frame is segmented again in a crop around it.
    """
    whole = whole_frame(clip)
    cutout = _segment_box(resized(clip.frames, whole), whole, tick)
    longer = max(whole)
    if cutout is None:
        return None
    if longer > SEGMENTED_PX[1]:
        box = _surroundings(cutout, whole)
        if box and max(box[2] - box[0], box[3] - box[1]) <= _WORTH_ZOOMING * longer:
            cutout = _segment_box(resized(clip.frames, box), box, tick) or cutout
    return cutout.onto(clip)


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
