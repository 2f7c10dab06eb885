"""Says how well meshes fit the video that they were made of: outlines and motion.

Called by child/appearance.py; child/score_warnings.py says what is too little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from appearance import OnProgress
from appearance.outlines import (
    Box,
    CutOuts,
    Masks,
    cut_out,
    drawn_outlines,
    overlaps,
    subject_boxes,
)
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip

FIRST_WINDOW, NEXT_WINDOW = 16, 15
"""Timesteps that ActionMesh makes at first, and with each further window."""
_SUBJECT_PX, _MOST_PX = 192, 384
"""About how large the subject is when it is compared, and the most px of the whole square."""
_LEAST_VIDEO_MOTION = 0.15


@dataclass(frozen=True)
class Score:
    """Outline overlaps (IoU, 0 to 1) of all timesteps, and how well the motion follows the video.

    Frames that show no subject are `empty`: they have an overlap of 0, which counts for nothing.
    `motion` is 1 for the video's own motion, 0 for none or another; None where the video moves too
    little to judge, less than `video_motion` says: 1 - mean IoU between its own outlines.
    """

    outlines: tuple[float, ...]
    motion: float | None
    video_motion: float
    empty: tuple[int, ...] = ()

    @property
    def outline_mean(self) -> float:
        return sum(self._judged) / len(self._judged)

    @property
    def outline_worst(self) -> float:
        return min(self._judged)

    @property
    def worst_frame(self) -> int:
        judged = (t for t in range(len(self.outlines)) if t not in self.empty)
        return min(judged, key=lambda t: self.outlines[t], default=0)

    @property
    def ends(self) -> tuple[float, float] | None:
        """The mean overlaps of the first 16 and the last 15 timesteps.

        ActionMesh goes on from its window of 16 by 15 at a time, and errors add up. None for one
        window, or where one of both shows no subject.
        """
        count = len(self.outlines)
        if count < FIRST_WINDOW + NEXT_WINDOW:
            return None
        parts = range(FIRST_WINDOW), range(count - NEXT_WINDOW, count)
        judged = [[self.outlines[t] for t in part if t not in self.empty] for part in parts]
        if not all(judged):
            return None
        first, last = (sum(values) / len(values) for values in judged)
        return first, last

    @property
    def _judged(self) -> list[float]:
        judged = [value for t, value in enumerate(self.outlines) if t not in self.empty]
        return judged or [0.0]


def score_view(meshes: MeshSequence, clip: Clip, view: View, report: OnProgress) -> Score:
    """The score of the meshes, seen through `view`, against a clip with alpha.

    Motion is how much better an outline fits its own frame than the others, as a part of what the
    video's own outlines would reach. With a view that follows the subject, outlines are compared
    around its middle.
    """
    if len(meshes) != len(clip) or not clip.has_alpha:
        raise ValueError(f"{len(meshes)} timesteps need as many frames with alpha, not {len(clip)}")
    steps = 3 * len(clip)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        report(min(done / steps, 1.0))

    cuts = _cuts(meshes, clip, view, tick)
    drawn = np.empty_like(cuts.masks)
    for k in range(len(clip)):
        tick()
        frame = cuts.some([k])
        seen = frame.pixels_of(view, meshes.vertices[k : k + 1])
        drawn[k] = drawn_outlines(seen, meshes.faces, cuts.size_px)[0]
    drawn &= cuts.known
    masks = cuts.masks
    has_subject = masks.any(axis=(1, 2))
    outlines = np.where(has_subject, overlaps(drawn, masks, cuts.known), 0.0)
    motion, video_motion = _motion(drawn[has_subject], masks[has_subject])
    report(1.0)
    empty = tuple(np.flatnonzero(~has_subject).tolist())
    return Score(tuple(outlines.tolist()), motion, video_motion, empty)


def _cuts(meshes: MeshSequence, clip: Clip, view: View, tick: Callable[[], None]) -> CutOuts:
    """Cut-outs that hold the subject and, as far as it is in the picture, the mesh."""
    height, width = clip.frames.shape[1:3]
    view = view.scaled_to(width, height)
    subjects = subject_boxes(clip, tick)
    boxes = []
    for t, subject in enumerate(subjects):
        seen = view.project(meshes.vertices[t], t)
        left, top = (int(value) for value in np.clip(seen.min(axis=0), 0, (width - 1, height - 1)))
        right, bottom = (
            int(value) + 1
            for value in np.clip(seen.max(axis=0), (left, top), (width - 1, height - 1))
        )
        box = Box(left, top, right, bottom)
        boxes.append(box.union(subject) if subject else box)
    middles = subjects if view.kind == "centred" else [reduce(Box.union, boxes)] * len(boxes)
    around = [middle or box for middle, box in zip(middles, boxes, strict=True)]
    side = max(box.side_around(middle.middle) for box, middle in zip(boxes, around, strict=True))
    usual = float(np.median([box.longer_side for box in boxes]))
    size_px = int(np.clip(_SUBJECT_PX * side / usual, _SUBJECT_PX, _MOST_PX))
    return cut_out(clip, around, side, size_px, tick)


def _motion(drawn: Masks, masks: Masks) -> tuple[float | None, float]:
    """Score.motion and .video_motion of outlines `(T, N, N)`."""
    if len(masks) < 2:
        return None, 0.0
    video_motion = 1 - _mean_of_others(_all_overlaps(masks, masks))
    if video_motion < _LEAST_VIDEO_MOTION:
        return None, video_motion
    fits = _all_overlaps(drawn, masks)
    return (float(np.diag(fits).mean()) - _mean_of_others(fits)) / video_motion, video_motion


def _all_overlaps(first: Masks, second: Masks) -> NDArray[np.float32]:
    """IoU `(T, T)` of each mask `(T, N, N)` with each of the others."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (first, second))
    both = a @ b.T
    either = a.sum(axis=1)[:, None] + b.sum(axis=1) - both
    return np.asarray(both / np.maximum(either, 1))


def _mean_of_others(values: NDArray[np.float32]) -> float:
    """The mean of `(T, T)` without its diagonal."""
    count = len(values)
    return float((values.sum() - np.trace(values)) / (count * (count - 1)))
