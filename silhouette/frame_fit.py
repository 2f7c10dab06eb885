"""How well the finished surface fits each frame. Changes nothing; pipeline.py calls it."""

from __future__ import annotations

from collections.abc import Callable

from silhouette.surface_motion import Motion
from silhouette.tracking_frames import TrackingFrames
from silhouette.triangulation import Mesh
from video.cores import in_order

_LOST = 0.09


def surface_overlaps(
    frames: TrackingFrames, mesh: Mesh, motion: Motion, tick: Callable[[], None]
) -> list[float]:
    """Per frame the intersection over union of `motion` `(T, V, 3)`, drawn, and the mask."""
    front = mesh.triangles[mesh.points[mesh.triangles, 2].mean(axis=1) < 0]  # covers what all do
    overlaps = []
    for overlap in in_order(
        lambda t: frames.overlap(motion[t, :, :2], front, t), range(len(motion))
    ):
        overlaps.append(overlap)
        tick()
    return overlaps


def lost_frames(overlaps: list[float], reference: int) -> list[int]:
    """The frames in which the subject is lost: the overlap is much worse than in the reference.

    It is about .97 there, so .88 is the limit. Clips that track well have .94 to .99 in all frames.
    """
    return [t for t, overlap in enumerate(overlaps) if overlap < overlaps[reference] - _LOST]
