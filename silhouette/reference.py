"""Which frame the mesh is made from: the one whose shape fits all the others.

A mesh cannot part what its reference frame shows as one: legs that touch there stay glued. So a few
frames are tried on a small canvas, and the one whose mesh covers every outline best is taken.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from silhouette.canvas import Canvas
from silhouette.footage import Flow, Footage
from silhouette.lattice import Triangles
from silhouette.outline import Field, Points
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
            overlap(points, tracker.sheet.triangles, alpha)
            for points, alpha in zip(track, footage.alphas, strict=True)
        ]
        score = 0.7 * float(np.mean(overlaps)) + 0.3 * min(overlaps)
        scores[reference] = score + (_FIRST_FRAME_BONUS if reference == 0 else 0.0)
    return max(scores, key=lambda t: scores[t]) if scores else count // 2


def overlap(points: Points, triangles: Triangles, alpha: Field) -> float:
    """Intersection over union of the drawn triangles and the mask; 1 where both are empty."""
    drawn = np.zeros(alpha.shape, np.uint8)
    for corners in np.round(points[triangles] * 16).astype(np.int32):
        cv2.fillConvexPoly(drawn, corners, 1, shift=4)
    mesh, mask = drawn > 0, alpha > 0.5
    union = int(np.count_nonzero(mesh | mask))
    return np.count_nonzero(mesh & mask) / union if union else 1.0


def _spread(canvas: Canvas, candidates: int) -> list[int]:
    """Frames with a whole subject, evenly spread, the first of them included."""
    areas = np.array([float(np.count_nonzero(alpha > 0.5)) for alpha in canvas.alphas])
    whole: NDArray[np.int64] = np.flatnonzero(areas >= 0.5 * np.median(areas[areas > 0]))
    picks = np.linspace(0, len(whole), candidates, endpoint=False).astype(int)
    return [int(t) for t in np.unique(whole[picks])]
