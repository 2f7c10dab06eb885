"""Finds where the video was filmed from, from the subject's outlines and colours.

search.py finds poses, this file decides: one camera for all timesteps or one that follows the
subject, front or back. child/appearance.py calls it; upstream/ rates shapes with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from appearance import OnProgress
from appearance.consistency import color_deviation
from appearance.outlines import Box, cut_out, subject_boxes
from appearance.pose import Subject, degrees_between, towards
from appearance.search import ELSEWHERE_DEG, MOST_FRAMES, SIZE_PX, Found, search, spread_over
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip, SourceFacts

_POOR, _GAIN = 0.80, 0.05
"""A view with less overlap is compared with one that follows the subject, which must gain that."""
_DRIFT = 0.25
"""Of the subject's size: only where their middles move apart that far can a view that follows help.
"""
_MARGIN = 0.03
"""Views whose overlaps differ by less are told apart by colours."""
_COLOR_MARGIN = 0.05
"""Colour deviations that differ by a smaller part of themselves are alike, and those that differ by
less than `_LEAST_COLOR`, of 255."""
_LEAST_COLOR = 0.3
_FULL = 0.98
"""A subject that covers more of the picture has no outline."""
_TICKS = 500
"""About as many steps has a search."""


class NotFitted(Exception):
    """There is no view; the message says why, for people."""


@dataclass(frozen=True)
class Fit:
    """The view, and how sure it is.

    `runner_up` is the outline overlap (mean IoU) of the best view from elsewhere, None if there is
    none. `is_ambiguous`: neither outlines nor colours tell it from that one.
    """

    view: View
    runner_up: float | None
    is_ambiguous: bool


def fit_view(meshes: MeshSequence, clip: Clip, report: OnProgress) -> Fit:
    """The view of a clip with alpha, one frame for each timestep. Raises NotFitted."""
    if len(meshes) != len(clip):
        raise ValueError(f"{len(meshes)} timesteps need as many frames, not {len(clip)}")
    tick = _counter(report)
    boxes, timesteps = _subject(clip, tick)
    found = _search(meshes, clip, boxes, timesteps, False, tick)
    if found[0].overlap < _POOR and _drifts(meshes, boxes, timesteps, found[0].view):
        following = _search(meshes, clip, boxes, timesteps, True, tick)
        if following[0].overlap >= found[0].overlap + _GAIN:
            found = following
    best, is_ambiguous = _chosen(meshes, clip, timesteps, found, tick)
    others = [
        other.overlap for other in found if degrees_between(other.pose, best.pose) > ELSEWHERE_DEG
    ]
    report(1.0)
    view = best.view.scaled_to(clip.source.width, clip.source.height)
    return Fit(view, max(others, default=None), is_ambiguous)


def first_frame_overlap(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], alpha: NDArray[np.uint8]
) -> float:
    """The best IoU, 0 to 1, of the outline of one mesh `(V, 3)` with one alpha `(H, W)`.

    Raises NotFitted.
    """
    height, width = alpha.shape
    frame = np.zeros((1, height, width, 4), np.uint8)
    frame[0, ..., 3] = alpha
    clip = Clip(frame, 1.0, SourceFacts(width, height, 1, None, (0,)))
    meshes = MeshSequence(vertices[None], faces, 1.0)
    boxes, timesteps = _subject(clip, _nothing)
    return _search(meshes, clip, boxes, timesteps, False, _nothing)[0].overlap


def _nothing() -> None:
    pass


def _counter(report: OnProgress) -> Callable[[], None]:
    """Called for each step; reports the part that is done of two searches."""
    steps = 0

    def tick() -> None:
        nonlocal steps
        steps += 1
        report(min(steps / (2 * _TICKS), 1.0))

    return tick


def _subject(clip: Clip, tick: Callable[[], None]) -> tuple[list[Box], list[int]]:
    """A box for each frame, and the frames, at most MOST_FRAMES, to look at. Raises NotFitted."""
    if not clip.has_alpha:
        raise NotFitted("the frames have no alpha, so the subject has no outline")
    found = subject_boxes(clip, tick)
    seen = [t for t, box in enumerate(found) if box is not None]
    if 2 * len(seen) <= len(found):
        raise NotFitted(f"the subject is seen in {len(seen)} of {len(found)} frames only")
    # where there is none, the box of the nearest frame: the camera stays where it was
    nearest = [min(seen, key=lambda place: abs(place - t)) for t in range(len(found))]
    boxes = [box for box in (found[t] for t in nearest) if box is not None]
    return boxes, [seen[place] for place in spread_over(len(seen), MOST_FRAMES)]


def _search(
    meshes: MeshSequence,
    clip: Clip,
    boxes: list[Box],
    timesteps: list[int],
    follows: bool,
    tick: Callable[[], None],
) -> list[Found]:
    """Views of the clip's frames, best first. Raises NotFitted."""
    subject = Subject.of(meshes, follows)
    if not subject.radius > 0:
        raise NotFitted("the mesh has no size")
    if follows:
        side = max(box.longer_side for box in boxes)
    else:
        boxes = [reduce(Box.union, boxes)] * len(boxes)
        side = boxes[0].longer_side
    cuts = cut_out(clip, boxes, side, SIZE_PX, tick)
    used = cuts.some(timesteps)
    if used.masks[used.known].mean() > _FULL:
        raise NotFitted("the subject fills the whole picture, so it has no outline")
    return search(meshes, cuts, timesteps, subject, tick)


def _drifts(meshes: MeshSequence, boxes: list[Box], timesteps: list[int], view: View) -> bool:
    """Whether the subject moves through the picture otherwise than the mesh that the view sees."""
    apart = []
    for t in timesteps:
        seen = view.project(meshes.vertices[t], t)
        apart.append(boxes[t].middle - (seen.min(axis=0) + seen.max(axis=0)) / 2)
    size = float(np.median([boxes[t].longer_side for t in timesteps]))
    return bool(np.ptp(apart, axis=0).max() > _DRIFT * size)


def _chosen(
    meshes: MeshSequence,
    clip: Clip,
    timesteps: list[int],
    found: list[Found],
    tick: Callable[[], None],
) -> tuple[Found, bool]:
    """The right one of views, best first, and whether that is a guess.

    Of views with about the same overlap it is the one in which each place of the surface keeps its
    colour over the frames; of those with about the same colours the one from the front.
    """
    best = found[0]
    rivals = [
        other
        for other in found
        if other.overlap > best.overlap - _MARGIN
        and degrees_between(other.pose, best.pose) > ELSEWHERE_DEG
    ]
    if not rivals:
        return best, False
    rated = [
        (color_deviation(meshes, clip, timesteps, candidate.view, tick), candidate)
        for candidate in (best, *rivals)
    ]
    least = min(deviation for deviation, _ in rated)
    most = least * (1 + _COLOR_MARGIN) + _LEAST_COLOR
    alike = [candidate for deviation, candidate in rated if deviation <= most]
    return max(alike, key=lambda candidate: towards(candidate.pose)[2]), len(alike) > 1
