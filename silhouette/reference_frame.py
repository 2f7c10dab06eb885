"""Which frame the mesh is made from: the one whose shape fits all the others.

A mesh cannot part what its reference frame shows as one: legs that touch there stay glued. So a few
frames are tried on a small canvas, and the one whose mesh covers every outline best, and carries
its colours best, is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from silhouette.crop import Canvas
from silhouette.outline import sample
from silhouette.tracking import Track, Tracker
from silhouette.tracking_frames import Flow, Footage

_SIDE_PX = 256
_NODES = 350
_MOST_FRAMES = 16
"""Longer clips are tried on every second frame."""
_FIRST_FRAME_BONUS = 0.006
"""Where others are no better, the first frame: people expect it."""
_GREY_LEVEL = 0.002
"""What one grey level (of 255) of mean colour error is worth in overlap."""


def choose_reference(canvas: Canvas, candidates: int, tick: Callable[[], None]) -> int:
    """The index of the best of `candidates` frames; `tick` is called after every coarse step."""
    whole = _whole_frames(canvas)
    picks = whole[np.linspace(0, len(whole), candidates, endpoint=False).astype(int)]
    if candidates == 1:
        return int(picks[0])
    stride = -(-len(canvas.images) // _MOST_FRAMES)
    small = canvas.shrunk(_SIDE_PX, stride)
    footage = Footage.of(small, tick)
    flow = Flow(remember=True)
    scores = {}
    for reference in np.unique(picks // stride):
        tracker = Tracker(footage, int(reference), _NODES, flow)
        if len(tracker.sheet.triangles):
            scores[int(reference)] = _score(
                tracker, tracker.run(tick, careful=False, reanchor=False)
            )
    if not scores:
        return int(picks[0])
    return stride * max(scores, key=lambda t: scores[t])


def _score(tracker: Tracker, track: Track) -> float:
    """Overlap with the outlines, on average and at worst, less the colour error."""
    footage, reference = tracker.footage, tracker.reference
    overlaps, errors = [], [0.0]
    own = sample(footage.greys[reference], track[reference]).astype(float)
    for t, points in enumerate(track):
        overlaps.append(footage.overlap(points, tracker.sheet.triangles, t))
        inside = sample(footage.alphas[t], points) > 0.9
        if inside.any():
            found = sample(footage.greys[t], points).astype(float)
            errors.append(float(np.abs(found - own)[inside].mean()))
    score = 0.7 * float(np.mean(overlaps)) + 0.3 * min(overlaps)
    bonus = _FIRST_FRAME_BONUS if reference == 0 else 0.0
    return score + bonus - _GREY_LEVEL * float(np.mean(errors))


def _whole_frames(canvas: Canvas) -> NDArray[np.int64]:
    """Frames in which about as much of the subject is seen as usual."""
    areas = np.array([float(np.count_nonzero(alpha > 0.5)) for alpha in canvas.alphas])
    usual = float(np.median(areas[areas > 0])) if areas.any() else 0.0
    return np.flatnonzero(areas >= 0.5 * usual)
