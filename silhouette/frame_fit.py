"""How well the finished surface fits each frame. Changes nothing; pipeline.py calls it."""

from __future__ import annotations

from silhouette.surface_motion import Motion
from silhouette.tracking_frames import TrackingFrames
from silhouette.triangulation import Mesh

_LOST = 0.09


def lost_frames(
    frames: TrackingFrames, mesh: Mesh, motion: Motion, reference: int
) -> tuple[int, ...]:
    """The frames in which `motion` `(T, V, 3)` has lost the subject.

    The surface covers the mask there with an overlap that is _LOST worse than in the reference
    frame, where it is about .97: below .88. Clips that track well have .94 to .99 in all frames.
    """
    front = mesh.triangles[mesh.points[mesh.triangles, 2].mean(axis=1) < 0]  # covers what all do
    overlaps = [frames.overlap(points, front, t) for t, points in enumerate(motion[..., :2])]
    least = overlaps[reference] - _LOST
    return tuple(t for t, overlap in enumerate(overlaps) if overlap < least)
