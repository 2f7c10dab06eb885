"""Follows the subject that the client has chosen, from the first frame to the last.

The two looks are tried first, where the flow carries the chosen box and where motion leads from it.
If they find another thing, each frame's box lies where the flow carries the mask of the frame
before it. Called by find.py.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline import SubjectChoice
from subject.two_looks import find_near
from subject.view import Answer, Boxes, Look, View, decidedness, mix
from video.fields import Field, Mask, warp

_GROWTH = 1.5
_POINT_SIDES = (0.12, 0.25, 0.5, 1.0)
"""Boxes tried around a point, in shorter sides of the frame."""
_AS_CLEAR = 0.9
"""A larger box is better if it is about as clear: the smaller ones cut off limbs."""
_LARGE = 0.3
"""Of the largest part: smaller ones do not belong to the thing under the point."""
_MOST_CHANGE = 1.1
"""Of a box's sides from a frame to the next."""
_REACH = 2.0
"""Growth of the box in which motion is sought: a thing may move by half its size per frame."""
_NEAR = 1.25
"""What lies outside of the box grown so much is another thing."""
_WIDER = 0.1
"""More growth per frame, since the flow is wrong here and there; up to _WIDEST."""
_WIDEST = 3.0


def follow(view: View, choice: SubjectChoice) -> Answer | None:
    """Masks of the thing in the box, or under the point, of the first frame; None if nothing."""
    box = _chosen_box(view, choice)
    near, reached = _where_it_may_be(view, box), _where_motion_goes(view, box)
    return find_near(view, box, near, reached) or _step_by_step(view, box)


def _where_it_may_be(view: View, box: Boxes) -> list[Field]:
    """1 where the chosen thing may be: the box moves as most of its pixels do, and grows."""
    out = []
    for t in range(view.count):
        out.append(_filled(view, _grown(box, min(_GROWTH + _WIDER * t, _WIDEST))))
        if t < view.count - 1:
            inside = _filled(view, _grown(box, 0.7)) > 0
            box = box + np.tile(np.median(view.scene.forward[t][inside], axis=0), 2) * view.scale
    return out


def _where_motion_goes(view: View, box: Boxes) -> list[Field]:
    """1 around a box that goes, frame by frame, to what moves against the camera next to it.

    The flow loses a small thing that moves by its own width; its motion is seen where it arrives.
    """
    out = []
    half = (box[2:] - box[:2]) / 2
    for speed in view.motion:
        out.append(_filled(view, _grown(box, _REACH)))
        moving = speed * out[-1]
        rows, columns = np.nonzero((out[-1] > 0) & (moving >= 0.5 * moving.max()))
        arrived = (np.array([columns.mean(), rows.mean()]) + 0.5) * view.scale
        middle = np.clip(arrived, box[:2], box[2:])
        box = np.concatenate([middle - half, middle + half])
    return out


def _step_by_step(view: View, box: Boxes) -> Answer | None:
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
    """In pixels. Of the boxes tried around a point, the largest whose answer there is clear."""
    if choice.box is not None:
        return np.asarray(np.array(choice.box) * np.array(view.size * 2))
    assert choice.point is not None
    x, y = np.array(choice.point) * view.size
    column = min(int(x / view.scale), view.small[0] - 1)
    row = min(int(y / view.scale), view.small[1] - 1)
    best, found = 0.0, np.array([x - 8, y - 8, x + 8, y + 8])
    for side in _POINT_SIDES:
        half = side * min(view.size) / 2
        look = view.look(0, view.around(np.array([x - half, y - half, x + half, y + half]), 1.0))
        likely = view.shrunk(look)
        # all large parts, since one thing may stand in front of the middle of another
        large = _large_parts(likely > 0.5)
        around = _box_around(large, view) if large[row, column] else None
        if around is not None and decidedness(likely) > _AS_CLEAR * best:
            best, found = max(best, decidedness(likely)), around
    return found


def _box_around(mask: Mask, view: View) -> Boxes | None:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return None
    return np.array([left, top, left + width, top + height], float) * view.scale


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
    """1 inside the box, at the scene's size; at least one pixel, at the edge if it is outside."""
    most = np.array(view.small) - 1
    left, top = np.clip(np.round(box[:2] / view.scale).astype(int), 0, most)
    right, bottom = np.maximum(np.round(box[2:] / view.scale).astype(int), (left + 1, top + 1))
    out = np.zeros(view.small[::-1], np.float32)
    out[top:bottom, left:right] = 1
    return out


def _large_parts(mask: Mask) -> Mask:
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    area = stats[:, cv2.CC_STAT_AREA]
    area[0] = 0
    return np.asarray((area > _LARGE * area.max())[label])


def _overlapping(mask: Mask, before: Mask) -> Mask:
    """The parts of which at least a tenth was the subject before."""
    count, label = cv2.connectedComponents(mask.astype(np.uint8))
    areas = np.bincount(label.ravel(), minlength=count)
    kept = np.bincount(label[before], minlength=count) > 0.1 * areas
    kept[0] = True
    return np.asarray(kept[label])
