"""The subject's motion: a coarse flat mesh, deformed from frame to frame.

Each frame starts from its neighbour nearer to the reference frame: optical flow proposes,
as-rigid-as-possible deformation keeps limbs in shape, iterated closest contour points bring the rim
onto the outline, and a last look at the reference picture takes the drift out (re-anchoring). The
mesh never tears and never gains a triangle. What the deformation means for the surface is lifting's
matter.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from silhouette.arap import Arap, Pull, Rest
from silhouette.outline import Field, Outline, Points, sample
from silhouette.tracking_frames import Flow, Footage, follow
from silhouette.triangulation import (
    Sheet,
    averaging,
    cut_sheet,
    embed,
    rim_edges,
    signed_areas,
    spacing_for,
)

Track = NDArray[np.float64]
"""Control nodes over time, `(T, N, 2)`, canvas pixels."""

_STIFFNESS = 0.4
_FLOW_WEIGHT = 0.35
_LAST_LOOK_WEIGHT = 0.5
"""What the reference picture asks of a node once its track is smooth. While tracking, as much would
cost the outline (0.01 of the camel's overlap); afterwards it costs none, and the texture's error
falls by a tenth.
"""
_MOMENTUM_WEIGHT = 0.18
_MISFIT = 0.01
"""How much overlap may be lost against the reference frame before momentum is tried."""
_CONTOUR_WEIGHT = 1.2
_PREVIOUS_SHAPE = 0.6
"""How much the neighbour's shape counts as rest shape beside the reference's."""
_CONTOUR_ROUNDS = 4
_REACH_PX = 40.0
"""From how far the outline attracts the rim on a canvas of 512; it shrinks from round to round."""
_SMOOTH_FRAMES = 0.6
_LEAST_AREA = 0.04
"""A control triangle smaller than this share of its rest area counts as turned over."""


class Tracker:
    """Follows one control mesh of about `nodes` nodes, cut from frame `reference`."""

    def __init__(self, footage: Footage, reference: int, nodes: int, flow: Flow) -> None:
        outline = footage.outlines[reference]
        self.footage = footage
        self.reference = reference
        self.sheet: Sheet = cut_sheet(outline.distance, spacing_for(outline.distance, nodes))
        self.arap = Arap(self.sheet.triangles, len(self.sheet.points))
        self._flow = flow
        self._every = np.arange(len(self.sheet.points))
        self._rest_areas = signed_areas(self.sheet.points, self.sheet.triangles)
        self._rim_edges = rim_edges(self.sheet.triangles)
        self._rim = np.unique(self._rim_edges)
        self._best_overlap = footage.overlap(self.sheet.points, self.sheet.triangles, reference)

    def run(self, tick: Callable[[], None], careful: bool = True, reanchor: bool = True) -> Track:
        """Track outwards from the reference to both ends of the clip; `tick` after each frame.

        `careful` tries momentum where flow fails and smooths over time.
        """
        count = len(self.footage)
        track = np.empty((count, *self.sheet.points.shape))
        track[self.reference] = self.sheet.points
        glance = _Glance(self.footage, self.reference, self.sheet, self._flow) if reanchor else None
        for way, end in ((1, count), (-1, -1)):
            momentum = None
            for t in range(self.reference + way, end, way):
                before = track[t - way]
                track[t] = self._step(before, t - way, t, momentum, glance)
                momentum = track[t] - before if careful else None
                tick()
        return self._smooth(track, glance, tick) if careful else track

    def _step(
        self,
        before: Points,
        source: int,
        target: int,
        momentum: Points | None,
        glance: _Glance | None,
    ) -> Points:
        """From frame `source`, whose nodes are `before`, to its neighbour `target`.

        Flow cannot see a limb behind another one; the limb's momentum can. Where flow alone does
        not fit the outline, both are tried and the better one is taken.
        """
        points = self._fit(before, target, *self._carried(before, source, target), glance)
        if momentum is None:
            return points
        overlap = self.footage.overlap(points, self.sheet.triangles, target)
        if overlap > self._best_overlap - _MISFIT:
            return points
        sure = np.full(len(before), _MOMENTUM_WEIGHT)
        other = self._fit(before, target, before + momentum, sure, glance)
        better = self.footage.overlap(other, self.sheet.triangles, target) > overlap
        return other if better else points

    def _fit(
        self,
        before: Points,
        target: int,
        carried: Points,
        trust: NDArray[np.float64],
        glance: _Glance | None,
    ) -> Points:
        """Nodes at `before`, proposed to be at `carried`, brought onto the outline of `target`."""
        scale = self.footage.scale
        rests = [Rest(self.sheet.points, 1.0), Rest(before, _PREVIOUS_SHAPE)]
        flow = [Pull(self._every, carried, 0.02 + trust)]
        points = self.arap.solve(before, flow, rests, _STIFFNESS, 5)

        flow = [Pull(self._every, carried, trust)]
        pulls = flow
        for k in range(_CONTOUR_ROUNDS):
            pulls = flow + self._contour_pulls(points, target, scale * (_REACH_PX - 4 * k))
            stiffness = _STIFFNESS * (2 if k == 0 else 1)
            points = self.arap.solve(points, pulls, rests, stiffness, 2)

        if glance is not None:
            seen, sure = glance.at(points, target)
            flow = [
                Pull(self._every, carried, 0.4 * trust),
                Pull(self._every, seen, _FLOW_WEIGHT * sure),
            ]
            for _ in range(3):
                pulls = flow + self._contour_pulls(points, target, scale * _REACH_PX / 2)
                points = self.arap.solve(points, pulls, rests, _STIFFNESS, 2)
        return self._untangle(points, pulls, rests)

    def _carried(
        self, points: Points, source: int, target: int
    ) -> tuple[Points, NDArray[np.float64]]:
        """Where flow carries the nodes, and how far to trust it: inside both masks, and back."""
        footage = self.footage
        carried, missed = follow(points, *self._flow.between(footage, source, target))
        inside = (sample(footage.alphas[target], carried) > 0.4) & (
            sample(footage.alphas[source], points) > 0.4
        )
        return carried, _FLOW_WEIGHT * np.exp(-((missed / 2) ** 2)) * inside

    def _contour_pulls(self, points: Points, t: int, reach: float) -> list[Pull]:
        """Iterated closest points (Besl and McKay 1992) both ways, between edges that face alike.

        Rim nodes go to the outline, mostly along its normal (they may slide); outline points that
        no rim node went to fetch the nearest one; nodes that lie outside go back in.
        """
        outline = self.footage.outlines[t]
        if len(outline.points) < 10:
            return []
        rim = points[self._rim]
        facing = outline.oriented(rim, self._rim_normals(points))

        apart, nearest = outline.tree.query(facing)
        offset, normal = outline.points[nearest] - rim, outline.normals[nearest]
        along = (offset * normal).sum(axis=1, keepdims=True) * normal
        weight = _CONTOUR_WEIGHT * _attraction(apart, reach)
        pulls = [Pull(self._rim, rim + 0.8 * along + 0.2 * offset, weight)]

        apart, fetched = cKDTree(facing).query(outline.oriented(outline.points, outline.normals))
        weight = 0.5 * _CONTOUR_WEIGHT * _attraction(apart, reach)
        total = np.bincount(fetched, weight, len(rim))
        asked = total > 1e-3
        sums = [np.bincount(fetched, weight * outline.points[:, k], len(rim)) for k in (0, 1)]
        wanted = np.stack(sums, 1)[asked] / total[asked, None]
        pulls.append(Pull(self._rim[asked], wanted, np.minimum(total[asked], _CONTOUR_WEIGHT)))
        pulls.append(self._back_inside(points, outline))
        return pulls

    def _back_inside(self, points: Points, outline: Outline) -> Pull:
        distance = sample(outline.distance, points).astype(np.float64)
        out = np.flatnonzero(distance < -1)
        slope = sample(outline.slope, points[out]).astype(np.float64)
        target = points[out] - distance[out, None] * slope
        return Pull(out, target, np.full(len(out), 0.3))

    def _rim_normals(self, points: Points) -> Points:
        """Outward unit normals at the rim nodes."""
        start, end = self._rim_edges.T
        along = points[end] - points[start]
        across = np.stack([along[:, 1], -along[:, 0]], 1)
        normals = np.zeros_like(points)
        np.add.at(normals, start, across)
        np.add.at(normals, end, across)
        normals = normals[self._rim]
        out: Points = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        return out

    def _turned(self, points: Points) -> NDArray[np.bool_]:
        """Control triangles that are turned over, or nearly."""
        areas = signed_areas(points, self.sheet.triangles)
        out: NDArray[np.bool_] = areas < _LEAST_AREA * self._rest_areas
        return out

    def _untangle(self, points: Points, pulls: list[Pull], rests: list[Rest]) -> Points:
        """No triangle turned over: stiffen around them and let go there, then plain smoothing."""
        for attempt in range(4):
            turned = self._turned(points)
            if not turned.any():
                return points
            near = np.zeros(len(points))
            near[self.sheet.triangles[turned]] = 1
            near = np.minimum(1, near + self.arap.adjacency @ near)
            stiffer = 1 + 8 * 2.0**attempt * (near[self.arap.edges].max(axis=1) > 0)
            eased = [Pull(n, where, w * (1 - 0.9 * near[n])) for n, where, w in pulls]
            eased.append(Pull(self._every, points, 0.02 * (1 - near) + 1e-4))
            points = self.arap.solve(points, eased, rests, _STIFFNESS, 4, stiffer)
        mean = averaging(self.sheet.triangles, len(points))
        for _ in range(60):
            turned = self._turned(points)
            if not turned.any():
                break
            near = np.zeros(len(points))
            near[self.sheet.triangles[turned]] = 1
            near += self.arap.adjacency @ near
            points = np.where(near[:, None] > 0, 0.5 * points + 0.5 * (mean @ points), points)
        return points

    def _smooth(self, track: Track, glance: _Glance | None, tick: Callable[[], None]) -> Track:
        """A Gaussian over time against jitter, then back onto each frame's outline and picture."""
        calm: Track = gaussian_filter1d(track, _SMOOTH_FRAMES, axis=0, mode="nearest")
        calm[self.reference] = track[self.reference]
        for t in range(len(calm)):
            if t != self.reference:
                rests = [Rest(calm[t].copy(), 1.0)]
                points, pulls = calm[t], []
                steady = [Pull(self._every, calm[t], np.full(len(points), 0.05))]
                if glance is not None:
                    seen, sure = glance.at(points, t)
                    steady.append(Pull(self._every, seen, _LAST_LOOK_WEIGHT * sure))
                for _ in range(2):
                    pulls = steady + self._contour_pulls(
                        points, t, self.footage.scale * _REACH_PX / 4
                    )
                    points = self.arap.solve(points, pulls, rests, _STIFFNESS, 2)
                calm[t] = self._untangle(points, pulls, rests)
            tick()
        return calm


class _Glance:
    """Looks back at the reference: frame t, undone by the track so far, beside the reference."""

    def __init__(self, footage: Footage, reference: int, sheet: Sheet, flow: Flow) -> None:
        self._footage, self._sheet, self._flow = footage, sheet, flow
        self._inside = footage.outlines[reference].distance
        body = self._inside > -3
        rows, columns = np.nonzero(body)
        self._pixels = (rows, columns)
        places = np.stack([columns, rows], 1).astype(np.float64)
        self._corners, self._weights = embed(sheet, places)
        ground = np.uint8(footage.ground)
        self._picture = np.where(body, footage.greys[reference], ground)

    def at(self, points: Points, t: int) -> tuple[Points, NDArray[np.float64]]:
        """Where in frame `t` the nodes' surroundings in the reference are found, and how surely."""
        came_from = np.full((*self._picture.shape, 2), -50, np.float32)
        came_from[self._pixels] = np.einsum(
            "nk,nkd->nd", self._weights, points[self._corners], optimize=True
        )
        undone = _look_up(self._footage.greys[t], came_from, self._footage.ground)
        found, missed = follow(self._sheet.points, *self._flow.of_pictures(self._picture, undone))
        inside = sample(self._inside, found) > 0
        near = np.linalg.norm(found - self._sheet.points, axis=1) < 12 * self._footage.scale
        unlike = np.abs(
            sample(self._picture, self._sheet.points).astype(float) - sample(undone, found)
        )
        sure = np.exp(-((missed / 1.2) ** 2) - (unlike / 30) ** 2) * (inside & near)
        return np.where(inside[:, None], sample(came_from, found), points), sure


def _look_up(image: NDArray[np.uint8], where: Field, outside: int) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = cv2.remap(
        image,
        where,
        None,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )
    return out


def _attraction(apart: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Fades with distance, and ends at twice the reach: far limbs belong to someone else."""
    out: NDArray[np.float64] = np.exp(-((apart / reach) ** 2)) * (apart < 2 * reach)
    return out
