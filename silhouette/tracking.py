"""Tracks the subject with a coarse flat mesh that is deformed from frame to frame.

Each frame starts from its neighbour on the side of the reference frame:
1. optical flow proposes where the nodes are;
2. as-rigid-as-possible deformation keeps the shape of limbs;
3. iterated closest contour points move the rim onto the outline;
4. a comparison with the reference image removes drift (re-anchoring).
Where the result does not cover the outline, as after limbs have crossed, the frame is also tried
from the reference pose: so tracking recovers. The topology never changes. surface_motion.py applies
the result to the surface.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from silhouette.arap import Arap, Pull, Rest
from silhouette.outline import Outline
from silhouette.reference_matcher import ReferenceMatcher
from silhouette.tracking_frames import TrackingFrames, follow
from silhouette.triangulation import averaging, rim_edges, signed_areas, triangulate
from video.cores import in_order, taking_turns
from video.fields import Field, Points, sample_field

Track = NDArray[np.float64]
"""Control nodes over time, `(T, N, 2)`, crop pixels."""
Flow = Callable[[int, int], Field]
"""Optical flow between two frames, by their numbers."""

_STIFFNESS = 0.4
_FLOW_WEIGHT = 0.35
_REFERENCE_WEIGHT = 0.5
"""Weight of the reference image after smoothing. The same weight during tracking costs 0.01 of the
overlap on a test clip; after smoothing it costs none, and the texture's error falls by a tenth.
"""
_MOMENTUM_WEIGHT = 0.18
_MISFIT = 0.01
"""Momentum is tried if the overlap is this much worse than in the reference frame."""
_WORTH_RESTARTING = 0.05
"""A frame is tried from the reference pose too if its overlap is this much worse than there. Clips
that track well never come so far, and cost no more than without restarts.
"""
_CLEARLY_BETTER = 0.03
"""Gain of overlap for which a restart is taken: it may exchange left and right limbs, and the mesh
jumps. With .015 a crowded clip gains .005 of the overlap, and a tenth is added to its jitter.
"""
_CONTOUR_WEIGHT = 1.2
_PREVIOUS_SHAPE = 0.6
"""Weight of the neighbour's shape as a rest shape; the reference's shape has weight 1."""
_REACHES_PX = (40.0, 36.0, 32.0, 28.0)
"""Distance over which the outline attracts the rim, on a crop of 512, in each round."""
_SMOOTH_FRAMES = 0.6
_LEAST_AREA = 0.04
"""A control triangle smaller than this share of its rest area counts as turned over."""
_STIFFER_ATTEMPTS, _SMOOTHING_ATTEMPTS = 4, 60


class Tracker:
    """Tracks one control mesh of about `nodes` nodes, made from frame `reference`.

    The mesh may have no triangles; then nothing can be tracked.
    """

    def __init__(
        self, frames: TrackingFrames, reference: int, nodes: int, flow: Flow, reanchor: bool = False
    ) -> None:
        mesh = triangulate(frames.outlines[reference].distance, nodes)
        self.frames = frames
        self.reference = reference
        self.control_mesh = mesh
        self._flow = flow
        self._arap = Arap(mesh.triangles, len(mesh.points))
        self._mean = averaging(mesh.triangles, len(mesh.points))
        self._every = np.arange(len(mesh.points))
        self._rest_areas = signed_areas(mesh.points, mesh.triangles)
        self._rim_edges = rim_edges(mesh.triangles)
        self._rim = np.unique(self._rim_edges)
        self._best_overlap = self._overlap(mesh.points, reference)
        self._matcher = None
        if reanchor and len(mesh.triangles):
            self._matcher = ReferenceMatcher(frames, reference, mesh)

    def run(self, tick: Callable[[], None], refine: bool = True) -> Track:
        """Track outwards from the reference to both ends of the clip; `tick` after each frame.

        `refine` tries momentum and restarts where flow fails, and smooths over time.
        """
        count = len(self.frames)
        track = np.empty((count, *self.control_mesh.points.shape))
        track[self.reference] = self.control_mesh.points
        jumps = {0, count}  # between frames k - 1 and k
        ways = [self._outwards(1, refine), self._outwards(-1, refine)]
        for t, points, jump in taking_turns(ways):
            track[t] = points
            jumps.update(jump)
            tick()
        return self._smooth(track, sorted(jumps), tick) if refine else track

    def _outwards(self, way: int, refine: bool) -> Iterator[tuple[int, Points, list[int]]]:
        """From the reference to the end (`way` 1) or the start (-1): each frame with its nodes.

        And, if it does not continue the frame before, where the jump is.
        """
        before, momentum = self.control_mesh.points, None
        for t in range(self.reference + way, len(self.frames) if way > 0 else -1, way):
            points = self._step(before, t - way, t, momentum)
            restart = self._restart(points, t) if refine else None
            if restart is None:
                momentum = points - before if refine else None
                yield t, points, []
            else:
                points, momentum = restart, None
                yield t, points, [max(t, t - way)]
            before = points

    def _step(self, before: Points, source: int, target: int, momentum: Points | None) -> Points:
        """From frame `source`, whose nodes are `before`, to its neighbour `target`.

        Flow cannot follow a limb behind another one; its momentum can. Where the result of flow
        does not fit the outline, momentum is tried too and the better one is taken.
        """
        points = self._fit(before, target, *self._follow_flow(before, source, target))
        if momentum is None:
            return points
        overlap = self._overlap(points, target)
        if overlap > self._best_overlap - _MISFIT:
            return points
        flow_weight = np.full(len(before), _MOMENTUM_WEIGHT)
        other = self._fit(before, target, before + momentum, flow_weight)
        return other if self._overlap(other, target) > overlap else points

    def _restart(self, points: Points, t: int) -> Points | None:
        """Frame `t` from the reference pose; None unless clearly better than its nodes `points`.

        The pose is moved and scaled onto the mask, and follows the flow from the reference frame
        where that is consistent.
        """
        overlap, pose = self._overlap(points, t), self.control_mesh.points
        here, there = self.frames.place(t), self.frames.place(self.reference)
        if overlap > self._best_overlap - _WORTH_RESTARTING or here is None or there is None:
            return None
        placed = here[0] + (here[1] / there[1]) * (pose - there[0])
        carried, flow_weight = self._follow_flow(pose, self.reference, t)
        is_known = flow_weight > 0.05 * _FLOW_WEIGHT
        carried = np.where(is_known[:, None], carried, placed)
        fitted = self._fit(placed, t, carried, flow_weight)
        return fitted if self._overlap(fitted, t) > overlap + _CLEARLY_BETTER else None

    def _overlap(self, points: Points, t: int) -> float:
        return self.frames.overlap(points, self.control_mesh.triangles, t)

    def _follow_flow(
        self, points: Points, source: int, target: int
    ) -> tuple[Points, NDArray[np.float64]]:
        """Nodes of frame `source` moved by the flow to `target`, and a weight for each."""
        forward, backward = self._flow(source, target), self._flow(target, source)
        carried, flow_error = follow(points, forward, backward)
        inside = (sample_field(self.frames.alphas[target], carried) > 0.4) & (
            sample_field(self.frames.alphas[source], points) > 0.4
        )
        return carried, _FLOW_WEIGHT * np.exp(-((flow_error / 2) ** 2)) * inside

    def _fit(
        self, before: Points, target: int, carried: Points, flow_weight: NDArray[np.float64]
    ) -> Points:
        """Nodes from `before`, with the proposal `carried`, fitted to the outline of `target`."""
        rests = [Rest(self.control_mesh.points, 1.0), Rest(before, _PREVIOUS_SHAPE)]
        flow = [Pull(self._every, carried, 0.02 + flow_weight)]
        points = self._arap.solve(before, flow, rests, _STIFFNESS, 5)
        flow = [Pull(self._every, carried, flow_weight)]
        points, _ = self._onto_outline(points, target, flow, rests, _REACHES_PX[:1], 2 * _STIFFNESS)
        points, pulls = self._onto_outline(points, target, flow, rests, _REACHES_PX[1:])
        if self._matcher is not None:
            matched, match_weight = self._matcher.match(points, target)
            weak_flow = Pull(self._every, carried, 0.4 * flow_weight)
            both = [weak_flow, Pull(self._every, matched, _FLOW_WEIGHT * match_weight)]
            points, pulls = self._onto_outline(points, target, both, rests, (20.0, 20.0, 20.0))
        return self._untangle(points, pulls, rests)

    def _onto_outline(
        self,
        points: Points,
        t: int,
        steady_pulls: list[Pull],
        rests: list[Rest],
        reaches_px: Sequence[float],
        stiffness: float = _STIFFNESS,
    ) -> tuple[Points, list[Pull]]:
        """Pull the rim onto the outline of frame `t`, once for each reach.

        Returns the points, and the pulls of the last round.
        """
        pulls = steady_pulls
        outline = self.frames.outlines[t]
        slope = outline.slope()
        for reach_px in reaches_px:
            reach = self.frames.scale * reach_px
            pulls = steady_pulls + self._contour_pulls(points, outline, slope, reach)
            points = self._arap.solve(points, pulls, rests, stiffness, 2)
        return points, pulls

    def _contour_pulls(
        self, points: Points, outline: Outline, slope: Field, reach: float
    ) -> list[Pull]:
        """Iterated closest points (Besl and McKay 1992) in both directions, by distance and normal.

        Rim nodes are pulled to the outline, mostly along its normal (they may slide); outline
        points pull the nearest rim node; nodes outside the outline are pulled back inside.
        """
        if len(outline.points) < 10:
            return []
        rim = points[self._rim]
        facing = outline.oriented(rim, self._rim_normals(points))

        distances, nearest = outline.tree.query(facing)
        offset, normal = outline.points[nearest] - rim, outline.normals[nearest]
        along = (offset * normal).sum(axis=1, keepdims=True) * normal
        weight = _CONTOUR_WEIGHT * _attraction(distances, reach)
        pulls = [Pull(self._rim, rim + 0.8 * along + 0.2 * offset, weight)]

        distances, pulled = cKDTree(facing).query(outline.oriented(outline.points, outline.normals))
        weight = 0.5 * _CONTOUR_WEIGHT * _attraction(distances, reach)
        total = np.bincount(pulled, weight, len(rim))
        has_pull = total > 1e-3
        sums = [np.bincount(pulled, weight * outline.points[:, k], len(rim)) for k in (0, 1)]
        wanted = np.stack(sums, 1)[has_pull] / total[has_pull, None]
        weight = np.minimum(total[has_pull], _CONTOUR_WEIGHT)
        pulls.append(Pull(self._rim[has_pull], wanted, weight))

        distance = sample_field(outline.distance, points).astype(np.float64)
        out = np.flatnonzero(distance < -1)
        steepest = sample_field(slope, points[out]).astype(np.float64)
        inside = points[out] - distance[out, None] * steepest
        return [*pulls, Pull(out, inside, np.full(len(out), 0.3))]

    def _rim_normals(self, points: Points) -> Points:
        """Outward unit normals at the rim nodes."""
        start, end = self._rim_edges.T
        along = points[end] - points[start]
        across = np.stack([along[:, 1], -along[:, 0]], 1)
        normals = np.zeros_like(points)
        np.add.at(normals, self._rim_edges, across[:, None])
        normals = normals[self._rim]
        length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return np.asarray(normals / length)

    def _untangle(self, points: Points, pulls: list[Pull], rests: list[Rest]) -> Points:
        """Repair turned-over triangles: more stiffness, less pull; then plain smoothing."""
        triangles = self.control_mesh.triangles
        for attempt in range(_STIFFER_ATTEMPTS + _SMOOTHING_ATTEMPTS):
            turned = signed_areas(points, triangles) < _LEAST_AREA * self._rest_areas
            if not turned.any():
                break
            near = np.zeros(len(points))
            near[triangles[turned]] = 1
            near = np.minimum(1, near + self._arap.adjacency @ near)
            if attempt < _STIFFER_ATTEMPTS:
                stiffer = 1 + 8 * 2.0**attempt * (near[self._arap.edges].max(axis=1) > 0)
                weakened = [Pull(n, where, w * (1 - 0.9 * near[n])) for n, where, w in pulls]
                weakened.append(Pull(self._every, points, 0.02 * (1 - near) + 1e-4))
                points = self._arap.solve(points, weakened, rests, _STIFFNESS * stiffer, 4)
            else:
                mixed = 0.5 * points + 0.5 * (self._mean @ points)
                points = np.where(near[:, None] > 0, mixed, points)
        return points

    def _smooth(self, track: Track, jumps: list[int], tick: Callable[[], None]) -> Track:
        """Smooth over time against jitter, then fit to each frame's outline and image again.

        `jumps` are 0, the number of frames, and each frame that does not continue the one before.
        """
        parts = [track[first:end] for first, end in itertools.pairwise(jumps)]
        smooth: Track = np.concatenate(
            [gaussian_filter1d(part, _SMOOTH_FRAMES, axis=0, mode="nearest") for part in parts]
        )
        smooth[self.reference] = track[self.reference]

        def fit(t: int) -> Points:
            points: Points = smooth[t]
            if t == self.reference:
                return points
            rests = [Rest(points, 1.0)]
            steady_pulls = [Pull(self._every, points, np.full(len(points), 0.05))]
            if self._matcher is not None:
                matched, weight = self._matcher.match(points, t)
                steady_pulls.append(Pull(self._every, matched, _REFERENCE_WEIGHT * weight))
            fitted, pulls = self._onto_outline(points, t, steady_pulls, rests, (10.0, 10.0))
            return self._untangle(fitted, pulls, rests)

        for t, points in enumerate(in_order(fit, range(len(smooth)))):
            smooth[t] = points
            tick()
        return smooth


def _attraction(distances: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Decreases with distance; 0 beyond twice the reach, where another limb's outline may be."""
    return np.exp(-((distances / reach) ** 2)) * (distances < 2 * reach)
