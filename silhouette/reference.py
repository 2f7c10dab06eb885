"""Which frame the mesh is made from: the one whose shape fits all the others.

A mesh cannot part what its reference frame shows as one: legs that touch there stay glued. So a few
frames are tried on a small canvas, and the one whose mesh covers every outline best is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from silhouette.canvas import Canvas
from silhouette.footage import Flow, Footage
from silhouette.tracking import Tracker

_SIDE_PX = 256
_NODES = 350
_FIRST_FRAME_BONUS = 0.006
"""Where others are no better, the first frame: people expect it."""


def choose_reference(canvas: Canvas, candidates: int, tick: Callable[[], None]) -> int:
    """The index of the best of `candidates` frames; `tick` is called after every coarse step."""
    count = len(canvas.images)
    tried = _spread(canvas, candidates)
    if len(tried) == 1:
        return tried[0]
    footage = Footage.of(canvas.shrunk(_SIDE_PX), tick)
    flow = Flow(remember=True)
    scores = {}
    for reference in tried:
        tracker = Tracker(footage, reference, _NODES, flow)
        if not len(tracker.sheet.triangles):
            continue
        track = tracker.run(reanchor=False, smooth=False, tick=tick)
        overlaps = [
            footage.overlap(points, tracker.sheet.triangles, t) for t, points in enumerate(track)
        ]
        score = 0.7 * float(np.mean(overlaps)) + 0.3 * min(overlaps)
        scores[reference] = score + (_FIRST_FRAME_BONUS if reference == 0 else 0.0)
    return max(scores, key=lambda t: scores[t]) if scores else count // 2


def _spread(canvas: Canvas, candidates: int) -> list[int]:
    """Frames with a whole subject, evenly spread, the first of them included."""
    areas = np.array([float(np.count_nonzero(alpha > 0.5)) for alpha in canvas.alphas])
    whole: NDArray[np.int64] = np.flatnonzero(areas >= 0.5 * np.median(areas[areas > 0]))
    picks = np.linspace(0, len(whole), candidates, endpoint=False).astype(int)
    return [int(t) for t in np.unique(whole[picks])]
