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
MOST_FRAMES = 16
"""Longer clips are tried on every second frame."""
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
    complete = np.flatnonzero(areas >= 0.5 * usual)
    picks = complete[np.linspace(0, len(complete), candidates, endpoint=False).astype(int)]
    stride = -(-len(cropped.images) // MOST_FRAMES)
    frames = TrackingFrames.from_clip(cropped.shrunk(_SIDE_PX, stride), tick)
    flow = cache(frames.flow)
    tried = [
        reference
        for reference in np.unique(picks // stride).tolist()
        if areas[stride * reference] >= 0.5 * usual  # it may be the frame before the pick
    ]

    def score(reference: int) -> float:
        tracker = Tracker(frames, reference, _NODES, flow)
        if not len(tracker.control_mesh.triangles):
            return -np.inf
        return _score(tracker, tracker.run(lambda: None, refine=False))

    scores = []
    for found in in_order(score, tried):
        scores.append(found)
        tick()
    if max(scores, default=-np.inf) == -np.inf:
        return int(picks[0])
    return int(stride * tried[int(np.argmax(scores))])


def _score(tracker: Tracker, track: Track) -> float:
    """Mean and worst overlap with the outlines, minus the colour error."""
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
    bonus = _FIRST_FRAME_BONUS if reference == 0 else 0.0
    return score + bonus - _GREY_LEVEL * float(np.mean(errors))
