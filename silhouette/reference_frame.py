"""Chooses the frame that the mesh is made from.

A mesh cannot separate what touches in its reference frame, such as two legs. So a few frames are
tried at a small size, and the one is taken whose tracked mesh covers all outlines best and keeps
its colours best. Called by pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from silhouette.crop import CroppedClip
from silhouette.tracking import Track, Tracker
from silhouette.tracking_frames import TrackingFrames
from video.cores import in_order
from video.fields import sample_field

_SIDE_PX = 256
_NODES = 350
_MOST_LOOKED_AT = 31
"""Of longer clips the middle: no frame is far from it. 16 frames spread over 121 are too far apart
to be tracked, and the choice is poor: overlaps of .960, .976 and .964 on three clips, so .968, .978
and .962."""
MOST_FRAMES = 16
"""Of more frames every second one is tried."""
_FIRST_FRAME_BONUS = 0.006
"""The first frame is preferred if others are not clearly better: users expect it."""
_GREY_LEVEL = 0.002
"""Overlap that one grey level (of 255) of mean colour error counts for."""


def choose_reference(cropped: CroppedClip, candidates: int, tick: Callable[[], None]) -> int:
    """The index of the best of two or more `candidates`.

    `tick` is called up to MOST_FRAMES times for the frames, and once for each candidate.

    Candidates show at least half of the median area of the subject.
    """
    areas = np.array([np.count_nonzero(alpha > 0.5) for alpha in cropped.alphas])
    usual = np.median(areas[areas > 0]) if areas.any() else 0.0
    is_complete, looked_at = areas >= 0.5 * usual, np.arange(len(areas))
    if len(areas) > _MOST_LOOKED_AT:
        complete = np.flatnonzero(is_complete)
        before = max(0, len(complete) - _MOST_LOOKED_AT) // 2
        looked_at = complete[before : before + _MOST_LOOKED_AT]
        cropped, is_complete = cropped.some(looked_at), is_complete[looked_at]
    complete = np.flatnonzero(is_complete)
    picks = complete[np.linspace(0, len(complete), candidates, endpoint=False).astype(int)]
    stride = -(-len(looked_at) // MOST_FRAMES)
    frames = TrackingFrames.from_clip(cropped.shrunk(_SIDE_PX, stride), tick)
    flow = cache(frames.flow)
    tried = [
        reference
        for reference in np.unique(picks // stride).tolist()
        if is_complete[stride * reference]  # it may be the frame before the pick
    ]

    def score(reference: int) -> float:
        tracker = Tracker(frames, reference, _NODES, flow)
        if not len(tracker.control_mesh.triangles):
            return -np.inf
        bonus = _FIRST_FRAME_BONUS if looked_at[stride * reference] == 0 else 0.0
        return _score(tracker, tracker.run(lambda: None, refine=False), bonus)

    scores = []
    for found in in_order(score, tried):
        scores.append(found)
        tick()
    is_any = max(scores, default=-np.inf) > -np.inf
    best = stride * tried[int(np.argmax(scores))] if is_any else picks[0]
    return int(looked_at[best])


def _score(tracker: Tracker, track: Track, bonus: float) -> float:
    """Mean and worst overlap with the outlines, plus the bonus, minus the colour error."""
    frames, reference = tracker.frames, tracker.reference
    overlaps, errors = [], [0.0]
    own = sample_field(frames.greys[reference], track[reference]).astype(float)
    for t, points in enumerate(track):
        overlaps.append(frames.overlap(points, tracker.control_mesh.triangles, t))
        inside = sample_field(frames.alphas[t], points) > 0.9
        if inside.any():
            found = sample_field(frames.greys[t], points).astype(float)
            errors.append(float(np.abs(found - own)[inside].mean()))
    score = 0.7 * float(np.mean(overlaps)) + 0.3 * min(overlaps)
    return score + bonus - _GREY_LEVEL * float(np.mean(errors))
