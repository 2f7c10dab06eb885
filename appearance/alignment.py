"""Moves a pose until a mesh's outlines lie on a subject's: outline ICP by Levenberg-Marquardt.

Used by search.py. Outlines are those of points on the mesh's surface, which is faster than to draw
its faces and good enough to know where to go.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from appearance.outlines import CutOuts, Masks, overlaps
from appearance.pose import ELEVATION, NEARNESS, RADIUS_PX, ROLL, Pose, project

_STEPS = np.array([0.01, 0.01, 0.01, 0.01, 0.01, 0.5, 0.5])
"""For derivatives; that of the radius is a part of it."""
_LONGEST = np.array([0.15, 0.15, 0.15, 0.1, np.inf, np.inf, np.inf])
_FARTHEST, _NEAREST = 0.02, 0.75
"""The camera stays 1.3 to 50 radii away."""
_MOST_ROLL = 0.5
_TYPICAL = {ELEVATION: (np.radians(10), np.radians(40)), ROLL: (0.0, np.radians(8))}
"""Mean and deviation of what people film; azimuth is free."""
_TYPICAL_FOCAL = (np.log(1.4), 0.5)
"""Logarithm of a focal length as a part of the picture's longer side: 40 degrees."""
_MOST_PULLS = 5_000
_TOUCHED = 24
"""Alpha of pixels that the subject just touches: a pixel is the mesh's if it holds any point."""
_PRIOR = 0.03
"""px squared: how much being one deviation from the typical costs."""


@dataclass(frozen=True)
class Aligned:
    """A pose, and the mean IoU of points and masks there."""

    pose: Pose
    overlap: float


class Target:
    """The masks of K frames, and for each pixel outside of a mask its nearest pixel."""

    def __init__(self, cuts: CutOuts) -> None:
        self.cuts, self.masks = cuts, cuts.known & (cuts.coverage >= _TOUCHED)
        self.size = cuts.size_px
        self.picture_px = max(cuts.width, cuts.height) * cuts.scale
        self.nearest = np.stack([_nearest(mask) for mask in self.masks])
        self.box = _box(self.masks, cuts.known)

    def project(self, pose: Pose, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points `(K, N, 3)` in the cut-outs: `(K, N, 2)`."""
        return project(pose, self.cuts.principal, points)

    def splatted(self, seen: NDArray[np.float32]) -> Masks:
        """Masks `(K, N, N)` of pixels with points, without the gaps between points."""
        return splatted(seen, self.size)

    def overlap(self, drawn: Masks) -> float:
        return float(overlaps(drawn, self.masks, self.cuts.known).mean())


def _box(masks: Masks, known: Masks) -> tuple[NDArray[np.float64], NDArray[np.float64], Masks]:
    """Lowest and highest x, y `(2,)` of all masks, and where the picture cuts them off `(2, 2)`."""
    low, high, is_cut = np.zeros(2), np.zeros(2), np.zeros((2, 2), bool)
    for axis in (0, 1):
        across = (0, 1 + axis)  # of (K, y, x): what is left is x, then y
        used = np.flatnonzero(masks.any(axis=across))
        low[axis], high[axis] = used[0], used[-1] + 1
        in_picture = np.flatnonzero(known.any(axis=across))
        is_cut[0, axis] = used[0] <= in_picture[0] and in_picture[0] > 0
        is_cut[1, axis] = used[-1] >= in_picture[-1] and in_picture[-1] < masks.shape[1] - 1
    return low, high, is_cut


def splatted(seen: NDArray[np.float32], size: int) -> Masks:
    """Masks `(K, size, size)` of the pixels that hold points `(K, N, 2)`, gaps closed."""
    count = len(seen)
    tall = np.zeros((count * size, size), np.uint8)
    x, y = np.floor(seen).astype(np.int32).transpose(2, 0, 1)
    inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
    rows = y + np.arange(count, dtype=np.int32)[:, None] * size
    tall[rows[inside], x[inside]] = 1
    closed = cv2.morphologyEx(tall, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    return np.asarray(closed.reshape(count, size, size) > 0)


def align(
    pose: Pose,
    points: NDArray[np.float32],
    target: Target,
    most_steps: int,
    tick: Callable[[], None],
) -> Aligned:
    """The best pose on the way from this one; points `(K, N, 3)` as project() takes them."""
    best = None
    for step in range(most_steps + 1):
        tick()
        seen = target.project(pose, points)
        drawn = target.splatted(seen)
        found = Aligned(pose, target.overlap(drawn))
        if best is None or found.overlap > best.overlap:
            best = found
        if step == most_steps:
            break
        frames, which, wanted = _pulls(seen, drawn, target)
        move = _move(pose, points[frames, which], frames, wanted, target)
        pose = _plausible(pose + move)
        if step > 4 and np.abs(move[:4]).max() < 1e-3:
            break
    assert best is not None
    return best


def _plausible(pose: Pose) -> Pose:
    pose = pose.copy()
    pose[NEARNESS] = np.clip(pose[NEARNESS], _FARTHEST, _NEAREST)
    pose[ROLL] = np.clip(pose[ROLL], -_MOST_ROLL, _MOST_ROLL)
    pose[RADIUS_PX] = max(pose[RADIUS_PX], 1.0)
    return pose


def _pulls(
    seen: NDArray[np.float32], drawn: Masks, target: Target
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Which points, `(M,)` frames and places, are to move where, `(M, 2)` px.

    Points outside of the subject go to its nearest pixel; each pixel of the subject without points
    pulls the nearest point. Nothing outside of the picture counts.
    """
    last = target.size - 1
    x, y = np.clip(np.floor(seen).astype(np.int32), 0, last).transpose(2, 0, 1)
    all_frames: list[NDArray[np.intp]] = []
    places: list[NDArray[np.integer]] = []
    wanted: list[NDArray[np.floating]] = []
    for k, mask in enumerate(target.masks):
        outside = np.flatnonzero(~mask[y[k], x[k]] & target.cuts.known[k, y[k], x[k]])
        places.append(outside)
        wanted.append(target.nearest[k, y[k, outside], x[k, outside]])
        missed = mask & ~drawn[k]
        rows, columns = np.nonzero(missed)
        if len(rows):
            owner = np.zeros(mask.shape, np.int32)
            owner[y[k], x[k]] = np.arange(seen.shape[1])
            is_empty = np.ones(mask.shape, np.uint8)
            is_empty[y[k], x[k]] = 0
            places.append(_spread(owner, is_empty)[rows, columns])
            wanted.append(np.column_stack([columns, rows]) + np.float32(0.5))
        all_frames.append(np.full(len(outside) + len(rows), k))
    some = slice(None, None, 1 + sum(map(len, places)) // _MOST_PULLS)
    return (
        np.concatenate(all_frames)[some],
        np.concatenate(places)[some].astype(np.intp),
        np.concatenate(wanted)[some].astype(np.float32),
    )


def _nearest(mask: Masks) -> NDArray[np.float32]:
    """For each pixel the middle `(N, N, 2)` of the nearest pixel of the mask `(N, N)`."""
    size = len(mask)
    pixels = np.arange(size * size, dtype=np.int32).reshape(size, size)
    nearest = _spread(pixels, (~mask).astype(np.uint8))
    return np.stack([nearest % size, nearest // size], axis=-1).astype(np.float32) + 0.5


def _spread(values: NDArray[np.int32], is_empty: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The value of the nearest pixel that is not empty, for each pixel `(N, N)`."""
    if is_empty.all():
        return values
    _, labels = cv2.distanceTransformWithLabels(
        is_empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros(int(labels.max()) + 1, np.int32)
    filled = is_empty == 0
    table[labels[filled]] = values[filled]
    return np.asarray(table[labels])


def _move(
    pose: Pose,
    points: NDArray[np.float32],
    frames: NDArray[np.intp],
    wanted: NDArray[np.float32],
    target: Target,
) -> Pose:
    """One step of Levenberg-Marquardt that brings points `(M, 3)` nearer to where they should be.

    Far ones count less: what the mesh lacks, or has too much of, is no matter of the pose.
    """
    steps = _STEPS.copy()
    steps[RADIUS_PX] *= pose[RADIUS_PX]
    seen = project(pose, target.cuts.principal, points, frames)
    apart = wanted - seen
    weights = 1 / (1 + (np.linalg.norm(apart, axis=1) / (target.size * 0.06)) ** 2)
    weights /= max(len(weights), 1)
    slopes = np.empty((len(points), 2, 7))
    for place, step in enumerate(steps):
        other = pose + step * (np.arange(7) == place)
        slopes[..., place] = (project(other, target.cuts.principal, points, frames) - seen) / step
    flat = slopes.reshape(-1, 7)
    weighted = flat * np.repeat(weights, 2)[:, None]
    matrix, pull = weighted.T @ flat, weighted.T @ apart.ravel()
    for slope, miss in _priors(pose, target.picture_px):
        matrix += _PRIOR * np.outer(slope, slope)
        pull += _PRIOR * miss * slope
    damping = 0.01 * np.diag(np.diag(matrix)) + 1e-9 * np.eye(7)
    move = np.linalg.solve(matrix + damping, pull)
    # a little further than the step: the nearest pixel is never beyond the right one
    return np.asarray(np.clip(move, -_LONGEST, _LONGEST) * 1.3)


def _priors(pose: Pose, picture_px: float) -> list[tuple[NDArray[np.float64], float]]:
    """Slopes `(7,)` and how far it is to the typical, both in deviations."""
    priors = []
    for place, (mean, deviation) in _TYPICAL.items():
        priors.append(((np.arange(7) == place) / deviation, (mean - pose[place]) / deviation))
    mean, deviation = _TYPICAL_FOCAL
    slope = np.zeros(7)
    slope[RADIUS_PX], slope[NEARNESS] = 1 / pose[RADIUS_PX], -1 / pose[NEARNESS]
    focal = np.log(pose[RADIUS_PX] / pose[NEARNESS] / picture_px)
    priors.append((slope / deviation, float(mean - focal) / deviation))
    return priors
