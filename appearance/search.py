"""The poses from which a mesh's outlines look like the subject's, best first. Used by fit.py.

From coarse to fine: a grid of directions; the best eight moved until outlines coincide; the best
three of them with all frames. Ranks by what the mesh really covers, face by face.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appearance.alignment import Aligned, Target, align, splatted
from appearance.outlines import CutOuts, drawn_outlines, overlaps
from appearance.pose import (
    AZIMUTH,
    ELEVATION,
    NEARNESS,
    RADIUS_PX,
    Pose,
    Subject,
    X,
    Y,
    degrees_between,
    upright_axes,
    view_of,
)
from meshes.normals import face_normals
from meshes.sequence import MeshSequence
from meshes.view import View

SIZE_PX = 160
"""Of the cut-outs that search() takes."""
MOST_FRAMES = 16
ELSEWHERE_DEG = 25.0
"""Poses whose directions are further apart are different ones."""

_AZIMUTHS = np.radians(np.arange(-180, 180, 15))
_ELEVATIONS = np.radians([-20, 0, 20, 40, 60])
_NEARNESSES = (0.1, 0.4)
_HYPOTHESES, _FINALISTS = 8, 3
_HOPELESS = 0.06
"""Poses that overlap so much less than the best cannot win any more."""
_NEAR_DEG = 8.0


@dataclass(frozen=True)
class Found:
    """A pose, its view of the clip's frames, and its mean IoU."""

    pose: Pose
    view: View
    overlap: float


@dataclass(frozen=True)
class Stage:
    """What a part of the search looks at: masks, and points `(K, N, 3)` on the mesh, in radii."""

    target: Target
    points: NDArray[np.float32]

    @classmethod
    def of(
        cls, cuts: CutOuts, points: NDArray[np.float32], size_px: int, frames: int, count: int
    ) -> Stage:
        """At most `frames` of all frames, and `count` points."""
        places = spread_over(len(points), frames)
        return cls(Target(cuts.some(places).resized(size_px)), points[places, :count])


def search(
    meshes: MeshSequence,
    cuts: CutOuts,
    timesteps: list[int],
    subject: Subject,
    tick: Callable[[], None],
) -> list[Found]:
    """Different poses for cut-outs of all timesteps, best first; looks at `timesteps` only."""
    used = cuts.some(timesteps)
    points = surface_points(meshes, timesteps, subject, 8_000)
    hypotheses = _coarse(Stage.of(used, points, 56, 5, 2_000), tick)
    middle = Stage.of(used, points, 96, 8, 4_000)
    starts = [_far_enough(_resized(pose, 96 / 56), middle.target) for pose in hypotheses]
    aligned = [align(pose, middle.points, middle.target, 14, tick) for pose in starts]
    best = max(aligned, key=lambda found: found.overlap)
    aligned.append(align(opposite(best.pose), middle.points, middle.target, 14, tick))
    last = Stage.of(used, points, SIZE_PX, MOST_FRAMES, points.shape[1])
    corners = meshes.vertices.min(axis=(0, 1)), meshes.vertices.max(axis=(0, 1))
    centre = (corners[0].astype(float) + corners[1]) / 2
    found = []
    for chosen in _finalists(aligned):
        pose = align(_resized(chosen.pose, SIZE_PX / 96), last.points, last.target, 20, tick).pose
        view = view_of(pose, cuts, subject, centre)
        found.append(Found(pose, view, exact_overlap(meshes, used, view, tick)))
    return sorted(found, key=lambda candidate: -candidate.overlap)


def exact_overlap(
    meshes: MeshSequence, cuts: CutOuts, view: View, tick: Callable[[], None]
) -> float:
    """The mean IoU of the faces that the view sees and the masks."""
    values = []
    for k, t in enumerate(cuts.timesteps):
        tick()
        frame = cuts.some([k])
        seen = frame.pixels_of(view, meshes.vertices[t : t + 1])
        drawn = drawn_outlines(seen, meshes.faces, cuts.size_px)
        values.append(float(overlaps(drawn, frame.masks, frame.known)[0]))
    return float(np.mean(values))


def surface_points(
    meshes: MeshSequence, timesteps: list[int], subject: Subject, count: int
) -> NDArray[np.float32]:
    """Points `(K, count, 3)` all over the surface, in radii around the subject's centres.

    The same places of the surface in all timesteps, and the same ones each time.
    """
    random = np.random.default_rng(0)
    normals = face_normals(meshes.vertices[timesteps[0]].astype(float), meshes.faces)
    areas = np.linalg.norm(normals, axis=1)
    areas = areas if areas.any() else np.ones(len(areas))
    chosen = random.choice(len(areas), count, p=areas / areas.sum())
    weights = random.dirichlet([1, 1, 1], count).astype(np.float32)
    corners = meshes.faces[chosen]
    points = np.stack(
        [np.einsum("nc,ncd->nd", weights, meshes.vertices[t][corners]) for t in timesteps]
    )
    centres = subject.centres[timesteps].astype(np.float32)
    return np.asarray((points - centres[:, None]) / np.float32(subject.radius))


def opposite(pose: Pose) -> Pose:
    """The pose whose outline is nearly the same, if the mesh's left and right are alike."""
    turned: Pose = pose.copy()
    turned[AZIMUTH], turned[ELEVATION] = np.pi - pose[AZIMUTH], -pose[ELEVATION]
    return turned


def _coarse(stage: Stage, tick: Callable[[], None]) -> list[Pose]:
    """The best poses of a grid, all elsewhere."""
    target, points = stage.target, stage.points
    rated = []
    for azimuth in _AZIMUTHS:
        for elevation in _ELEVATIONS:
            tick()
            for nearness in _NEARNESSES:
                pose = np.array([azimuth, elevation, 0, nearness, 1, 0, 0])
                plane = _plane(pose, points)
                for placed in _placed(pose, plane, target):
                    seen = plane * np.float32(placed[RADIUS_PX]) + placed[[X, Y]].astype(np.float32)
                    drawn = splatted(seen, target.size)
                    rated.append(Aligned(placed, target.overlap(drawn)))
    rated.sort(key=lambda found: -found.overlap)
    return _apart(rated, ELSEWHERE_DEG, _HYPOTHESES)


def _plane(pose: Pose, points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where a camera that looks straight at the centre has points, `(K, N, 2)`, in radii."""
    in_camera = points @ upright_axes(pose).T.astype(np.float32)
    shrink = 1 / (1 - np.float32(pose[NEARNESS]) * in_camera[..., 2:])
    return np.asarray(in_camera[..., :2] * shrink * np.array([1, -1], np.float32))


def _placed(pose: Pose, plane: NDArray[np.float32], target: Target) -> Iterator[Pose]:
    """The pose with sizes and places at which the points fill the box around all masks.

    Where the picture cuts the subject off, the box's side says nothing: the size comes from the
    other direction, the place from the other side; without any, several sizes are tried.
    """
    low, high, is_cut = target.box
    start, end = plane.min(axis=(0, 1)), plane.max(axis=(0, 1))
    ratios = (high - low) / np.maximum(end - start, 1e-6)
    whole = ~is_cut.any(axis=0)
    size = (
        float(np.sqrt(ratios[0] * ratios[1]))
        if whole.all()
        else float(ratios[whole].mean())
        if whole.any()
        else float(ratios.max())
    )
    for factor in (1.0,) if whole.any() else (1.0, 1.4, 2.0):
        radius = size * factor
        at_low, at_high = low - radius * start, high - radius * end
        place = np.where(
            is_cut[0] == is_cut[1], (at_low + at_high) / 2, np.where(is_cut[0], at_high, at_low)
        )
        placed = pose.copy()
        placed[RADIUS_PX], placed[[X, Y]] = radius, place
        yield placed


def _apart(rated: list[Aligned], degrees: float, most: int) -> list[Pose]:
    """The first poses whose directions are that far apart."""
    poses: list[Pose] = []
    for found in rated:
        if all(degrees_between(found.pose, other) > degrees for other in poses):
            poses.append(found.pose)
        if len(poses) == most:
            break
    return poses


def _far_enough(pose: Pose, target: Target) -> Pose:
    """The pose with such a focal length that it sees the subject from one side in all frames."""
    axis = target.cuts.principal
    spread = float(np.linalg.norm(axis - axis.mean(axis=0), axis=1).max())
    pose = pose.copy()
    pose[NEARNESS] = min(pose[NEARNESS], pose[RADIUS_PX] / max(3 * spread, 1e-6))
    return pose


def _finalists(aligned: list[Aligned]) -> list[Aligned]:
    """The best poses; at least one of them elsewhere than the best."""
    aligned = sorted(aligned, key=lambda found: -found.overlap)
    chosen: list[Aligned] = []
    for found in aligned:
        is_new = all(degrees_between(found.pose, other.pose) > _NEAR_DEG for other in chosen)
        if is_new and (not chosen or found.overlap > aligned[0].overlap - _HOPELESS):
            chosen.append(found)
        if len(chosen) == _FINALISTS:
            break
    elsewhere = [found for found in aligned if _is_elsewhere(found, aligned[0])]
    if elsewhere and not any(_is_elsewhere(found, chosen[0]) for found in chosen):
        chosen = [*chosen[: _FINALISTS - 1], elsewhere[0]]
    return chosen


def _is_elsewhere(found: Aligned, other: Aligned) -> bool:
    return degrees_between(found.pose, other.pose) > ELSEWHERE_DEG


def _resized(pose: Pose, factor: float) -> Pose:
    """The same pose in cut-outs whose sides have `factor` as many pixels."""
    return pose * np.where(np.arange(7) >= RADIUS_PX, factor, 1.0)


def spread_over(count: int, most: int) -> list[int]:
    """At most so many places of 0..count-1, evenly."""
    return sorted(set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist()))
