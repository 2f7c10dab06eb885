"""Which connected parts of known masks the client has chosen. Called by find.py."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from errors import NoSubjectFound
from pipeline import SubjectChoice
from video.fields import Mask

_INSIDE = 0.5
"""Of a part's area: so much must be in the box, or must have been the subject before."""


def keep_chosen(alphas: NDArray[np.uint8], choice: SubjectChoice) -> NDArray[np.uint8]:
    """The alphas `(T, H, W)` of the chosen parts of the first frame, and of those that overlap them
    in the next frames, one after the other.

    Raises NoSubjectFound where nothing is chosen.
    """
    height, width = alphas.shape[1:]
    before = np.zeros((height, width), bool)
    if choice.box is not None:
        left, top, right, bottom = np.array(choice.box) * (width, height, width, height)
        before[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = True
    elif choice.point is not None:
        x, y = np.array(choice.point) * (width, height)
        before[min(int(y), height - 1), min(int(x), width - 1)] = True
    out = np.zeros_like(alphas)
    for t, alpha in enumerate(alphas):
        opaque = alpha > 127
        share = _INSIDE if t == 0 and choice.box is not None else 0.0
        mask = _parts(opaque, before, share)
        if t == 0 and not mask.any():
            raise NoSubjectFound(
                "Nothing of what stands out in the first frame is where the subject was chosen.",
                hint="Choose it again, in the first frame that is used.",
            )
        out[t] = alpha * (cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)))
        before = mask if mask.any() else before
    return out


def _parts(mask: Mask, before: Mask, share: float) -> Mask:
    """The connected parts of which more than `share` lies in `before`."""
    count, label = cv2.connectedComponents(mask.astype(np.uint8))
    areas = np.bincount(label.ravel(), minlength=count)
    kept = np.bincount(label[before], minlength=count) > share * areas
    kept[0] = False
    return np.asarray(kept[label])
