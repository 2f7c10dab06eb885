"""Follows the subject that the client has chosen, from the first frame to the last.

The box of a frame lies where the flow carries the mask of the frame before it; a look into it gives
the next mask. Called by find.py.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline import SubjectChoice
from subject.view import Answer, Boxes, Look, View, decidedness, mix
from video.fields import Field, Mask, warp

_GROWTH = 1.5
_POINT_SIDES = (0.12, 0.25, 0.5)
"""Boxes tried around a point, in shorter sides of the frame."""
_MOST_CHANGE = 1.1
"""Of a box's sides from a frame to the next."""
_NEAR = 1.25
"""What lies outside of the box grown so much is another thing."""


def follow(view: View, choice: SubjectChoice) -> Answer:
    """Masks of the thing in the box, or under the point, of the first frame."""
    box = _chosen_box(view, choice)
    looks: list[Look] = []
    fields: list[Field] = []
    known = _filled(view, box)
    for t in range(view.count):
        if t:
            known = warp(fields[-1], view.scene.grid + view.scene.backward[t - 1])
            box = _moved(box, _box_around(known > 0.5, view))
        look = view.look(t, view.around(box, _GROWTH))
        likely = view.shrunk(look) * _filled(view, _grown(box, _NEAR))
        if t:
            likely = 0.7 * likely + 0.3 * known
        fields.append(likely * _overlapping(likely > 0.5, known > 0.5))
        looks.append(look)
    return mix(view, looks, fields)


def _chosen_box(view: View, choice: SubjectChoice) -> Boxes:
    """In pixels. Of the boxes tried around a point, that whose answer is most decided there."""
    scale = np.array(view.size * 2, float)
    if choice.box is not None:
        return np.asarray(np.array(choice.box) * scale)
    assert choice.point is not None
    x, y = np.array(choice.point) * scale[:2]
    best, found = -1.0, np.array([x - 8, y - 8, x + 8, y + 8])
    for side in _POINT_SIDES:
        half = side * min(view.size) / 2
        look = view.look(0, view.around(np.array([x - half, y - half, x + half, y + half]), 1.0))
        likely = view.shrunk(look)
        mask = likely > 0.5
        at = np.minimum((x, y) / scale[:2] * view.small, np.array(view.small) - 1).astype(int)
        _, label = cv2.connectedComponents(mask.astype(np.uint8))
        under = label == label[at[1], at[0]]
        around = _box_around(under, view)
        if around is not None and mask[at[1], at[0]] and decidedness(likely) > best:
            best, found = decidedness(likely), around
    return found


def _box_around(mask: Mask, view: View) -> Boxes | None:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return None
    scale = view.size[0] / view.small[0]
    return np.array([left, top, left + width, top + height], float) * scale


def _moved(box: Boxes, found: Boxes | None) -> Boxes:
    if found is None:
        return box
    side, new = box[2:] - box[:2], found[2:] - found[:2]
    half = np.clip(new, side / _MOST_CHANGE, side * _MOST_CHANGE) / 2
    middle = (found[:2] + found[2:]) / 2
    return np.concatenate([middle - half, middle + half])


def _grown(box: Boxes, growth: float) -> Boxes:
    middle, half = (box[:2] + box[2:]) / 2, growth * (box[2:] - box[:2]) / 2
    return np.concatenate([middle - half, middle + half])


def _filled(view: View, box: Boxes) -> Field:
    """1 inside the box, at the scene's size."""
    scale = view.small[0] / view.size[0]
    left, top, right, bottom = np.round(np.maximum(box, 0) * scale).astype(int)
    out = np.zeros(view.small[::-1], np.float32)
    out[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
    return out


def _overlapping(mask: Mask, before: Mask) -> Mask:
    """The parts of which at least a tenth was the subject before."""
    count, label = cv2.connectedComponents(mask.astype(np.uint8))
    share = np.bincount(label[before], minlength=count) / np.bincount(
        label.ravel(), minlength=count
    )
    kept = share > 0.1
    kept[0] = True
    return np.asarray(kept[label])
