"""Pose: seven numbers that say how a camera sees a mesh, and the View that they mean.

Used by fit.py, search.py and alignment.py, which need numbers that hardly depend on one another.
Azimuth and elevation say where the camera stands, seen from the mesh's centre.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from appearance.outlines import CutOuts
from meshes.sequence import MeshSequence
from meshes.view import Kind, View

Pose = NDArray[np.float64]
"""`(7,)`: azimuth, elevation and roll in radians; nearness, the mesh's radius / its distance; the
radius, x and y of its centre in a cut-out, in px."""

AZIMUTH, ELEVATION, ROLL, NEARNESS, RADIUS_PX, X, Y = range(7)


@dataclass(frozen=True)
class Subject:
    """A mesh's size and place: one `radius` around `centres` `(T, 3)`, which may move over time."""

    centres: NDArray[np.float64]
    radius: float

    @classmethod
    def of(cls, meshes: MeshSequence, follows: bool) -> Subject:
        """With one centre for all timesteps, or, if it `follows`, one for each."""
        low, high = meshes.vertices.min(axis=1), meshes.vertices.max(axis=1)
        if not follows:
            low, high = (
                np.tile(low.min(axis=0), (len(low), 1)),
                np.tile(high.max(axis=0), (len(high), 1)),
            )
        centres = (low.astype(float) + high) / 2
        farthest = max(
            float(((frame - centre) ** 2).sum(axis=1).max())
            for frame, centre in zip(meshes.vertices, centres, strict=True)
        )
        return cls(centres, farthest**0.5)


def towards(pose: Pose) -> NDArray[np.float64]:
    """The direction `(3,)` from the mesh's centre to the camera."""
    azimuth, elevation = pose[AZIMUTH], pose[ELEVATION]
    level = np.cos(elevation)
    return np.array([np.sin(azimuth) * level, np.sin(elevation), np.cos(azimuth) * level])


def degrees_between(first: Pose, second: Pose) -> float:
    """The angle between two poses' directions."""
    return float(np.degrees(np.arccos(np.clip(towards(first) @ towards(second), -1, 1))))


def upright_axes(pose: Pose) -> NDArray[np.float64]:
    """Right, up and backward `(3, 3)` of a camera that looks straight at the mesh's centre."""
    azimuth, roll = pose[AZIMUTH], pose[ROLL]
    back = towards(pose)
    right = np.array([np.cos(azimuth), 0, -np.sin(azimuth)])
    up = np.cross(back, right)
    cos, sin = np.cos(roll), np.sin(roll)
    return np.stack([cos * right - sin * up, sin * right + cos * up, back])


def project(
    pose: Pose,
    principal: NDArray[np.float64],
    points: NDArray[np.float32],
    owners: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """Where points, in radii around the mesh's centre, lie in cut-outs: `(..., 2)`, in px.

    `principal` `(K, 2)` is where the optical axis meets each cut-out. Points `(K, N, 3)` lie each
    row in one of them, points `(N, 3)` in those that `owners` `(N,)` says.
    """
    axes, centres = _camera(pose, principal)
    in_camera = points @ (pose[NEARNESS] * axes).T.astype(np.float32)
    at = owners if owners is not None else np.arange(len(principal))[:, None]
    in_camera += centres.astype(np.float32)[at]
    plane = in_camera[..., :2]
    plane /= np.minimum(in_camera[..., 2:], np.float32(-0.05))
    plane *= np.float32(pose[RADIUS_PX] / pose[NEARNESS]) * np.array([-1, 1], np.float32)
    plane += principal.astype(np.float32)[at]
    return np.asarray(plane)


def _camera(
    pose: Pose, principal: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The camera's axes `(3, 3)`, and where it has the mesh's centres `(K, 3)`, distance 1."""
    focal = pose[RADIUS_PX] / pose[NEARNESS]
    across = (pose[[X, Y]] - principal) / focal * (1, -1)
    rays = np.column_stack([across, -np.ones(len(across))])
    middle = rays.mean(axis=0)
    middle /= np.linalg.norm(middle)
    return _turn_to(middle) @ upright_axes(pose), rays * -middle[2]


def _turn_to(ray: NDArray[np.float64]) -> NDArray[np.float64]:
    """The shortest rotation `(3, 3)` that takes -Z to a unit vector `(3,)` with z < 0."""
    x, y, z = ray
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 - z))


def view_of(pose: Pose, cuts: CutOuts, subject: Subject, middle: NDArray[np.float64]) -> View:
    """The view of a pose in the cut-outs of all timesteps; `middle` is View.centre."""
    axes, centres = _camera(pose, cuts.principal)
    eyes = subject.centres - subject.radius / pose[NEARNESS] * centres @ axes
    focal = pose[RADIUS_PX] / pose[NEARNESS] / cuts.scale
    # where only the mesh stands still, the parts of the pictures move
    stays = all((places == places[0]).all() for places in (subject.centres, cuts.origins))
    kind: Kind = "constant" if stays else "centred"
    return View(axes, eyes, middle, float(focal), cuts.width, cuts.height, kind)
