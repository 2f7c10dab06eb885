"""Finds the other side of the body: the plane that a shape is symmetric to, and what lies opposite.

A walking animal is its own mirror image only half a step later: so the mirror image of one timestep
is compared with all others. Called by complete.py for texels that no frame shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial import KDTree

from appearance import OnProgress
from appearance.texels import Texels
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence

_POSES = 8
"""Timesteps that are compared with one another."""
_POINTS = 2500
_TRIED = 500
_FAR = 0.04
"""Of the shape's largest side: points farther from their mirror images count as not symmetric."""
_LEAST_SYMMETRIC = 0.4
_NORMAL_WEIGHT = 0.08
_SEEN_POINTS = 60_000
_QUERIES = 20_000

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Mirror:
    """The mirror image of timestep `t` is nearly timestep `other`.

    `flip` `(3, 3)` and `shift` `(3,)`: a point p of `t` lies opposite to flip @ p + shift of
    `other`. `symmetry`, 0 to 1, is how near.
    """

    t: int
    other: int
    flip: Points
    shift: Points
    symmetry: float


def find_mirror(vertices: NDArray[np.float32], report: OnProgress) -> Mirror | None:
    """The best mirror, near x = the middle, of vertices `(T, V, 3)`; None if there is none."""
    chosen = np.random.default_rng(0).permutation(vertices.shape[1])[:_POINTS]
    times = np.unique(np.linspace(0, len(vertices) - 1, _POSES).round().astype(int))
    poses = vertices[times][:, chosen].astype(np.float64)
    far = _FAR * float(np.ptp(poses, axis=(0, 1)).max())
    trees = [KDTree(pose) for pose in poses]
    found = []
    for a, pose in enumerate(poses):
        flip, shift = _plane(pose, trees[a], far, lambda a=a: report(a / len(poses)))
        tried = pose[:_TRIED] @ flip.T + shift
        for b in range(len(poses)):
            turn, move = _rigid(pose, poses[b], far)
            symmetry = _symmetry(trees[b], tried @ turn.T + move, far)
            own = Mirror(int(times[a]), int(times[b]), turn @ flip, turn @ shift + move, symmetry)
            found.append(own)
    best = max(found, key=lambda mirror: mirror.symmetry)
    return best if best.symmetry >= _LEAST_SYMMETRIC else None


def _plane(pose: Points, tree: KDTree, far: float, report: Any) -> tuple[Points, Points]:
    """Flip and shift of the plane that a pose `(P, 3)` is most symmetric to, looked for near x."""
    middle = np.median(pose, axis=0)
    tried = pose[:_TRIED]

    def mirrored(offset_turn_tilt: Points) -> tuple[Points, Points]:
        offset, turn, tilt = offset_turn_tilt
        normal = np.array([np.cos(turn) * np.cos(tilt), np.sin(tilt), np.sin(turn) * np.cos(tilt)])
        return np.eye(3) - 2 * np.outer(normal, normal), 2 * (middle @ normal + offset) * normal

    def asymmetry(parameters: Points) -> float:
        report()
        flip, shift = mirrored(parameters)
        return -_symmetry(tree, tried @ flip.T + shift, far)

    simplex = np.diag([2.0 * far, 0.2, 0.1]).astype(float)
    options = {"maxfev": 60, "initial_simplex": np.vstack([np.zeros(3), simplex])}
    return mirrored(minimize(asymmetry, np.zeros(3), method="Nelder-Mead", options=options).x)


def _symmetry(tree: KDTree, points: Points, far: float) -> float:
    distance, _ = tree.query(points, distance_upper_bound=far)
    return float(1 - np.minimum(distance / far, 1).mean())


def _rigid(start: Points, end: Points, far: float) -> tuple[Points, Points]:
    """The turn and shift that lay most points of `start` `(P, 3)` on those of `end` (Kabsch).

    Limbs that move apart lose their weight in each of a few repetitions.
    """
    weights = np.ones(len(start))
    turn, move = np.eye(3), np.zeros(3)
    for _ in range(5):
        a, b = (np.average(points, axis=0, weights=weights) for points in (start, end))
        left, _, right = np.linalg.svd((start - a).T @ ((end - b) * weights[:, None]))
        sign = np.sign(np.linalg.det(left @ right))
        turn = (left * (1, 1, sign) @ right).T
        move = b - turn @ a
        off = np.linalg.norm(start @ turn.T + move - end, axis=1)
        weights = 1 / (1 + (off / far) ** 2) ** 2
    return turn, move


@dataclass(frozen=True)
class Opposite:
    """For each of N texels one on the other side of the body, `source` `(N,)`.

    `share` float32 `(N,)`, 0 to 1, says how near that is to the mirror image; 0: there is none.
    """

    source: NDArray[np.intp]
    share: NDArray[np.float32]


def opposite(
    meshes: MeshSequence,
    mirror: Mirror,
    texels: Texels,
    seen: NDArray[np.float32],
    asked: NDArray[np.intp],
    report: OnProgress,
) -> Opposite:
    """For the texels `asked`, the nearest to their mirror images among those that are `seen`."""
    radius = float(np.linalg.norm(np.ptp(meshes.vertices[0], axis=0))) / 2
    known = np.flatnonzero(seen > 0.9)
    if len(known) > _SEEN_POINTS:
        known = np.sort(np.random.default_rng(0).choice(known, _SEEN_POINTS, replace=False))
    source = np.zeros(len(texels), np.intp)
    share = np.zeros(len(texels), np.float32)
    if not len(known):
        return Opposite(source, share)
    weight = _NORMAL_WEIGHT * radius
    points, normals = _surface(meshes, mirror.other, texels, known)
    tree = KDTree(np.hstack([points, normals * weight]))
    for start in range(0, len(asked), _QUERIES):
        report(start / len(asked))
        part = asked[start : start + _QUERIES]
        points, normals = _surface(meshes, mirror.t, texels, part)
        images = np.hstack(
            [points @ mirror.flip.T + mirror.shift, normals @ mirror.flip.T * weight]
        )
        distance, nearest = tree.query(images, eps=0.2, distance_upper_bound=0.1 * radius)
        source[part] = known[np.minimum(nearest, len(known) - 1)]
        share[part] = np.clip(1.7 - distance / (0.02 * radius), 0, 1)
    return Opposite(source, share)


def _surface(
    meshes: MeshSequence, t: int, texels: Texels, chosen: NDArray[np.intp]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions and unit normals `(n, 3)` of the chosen texels at timestep `t`."""
    operator = texels.operator(chosen)
    pose = MeshSequence(meshes.vertices[t : t + 1], meshes.faces, meshes.fps)
    normals = operator @ vertex_normals(pose)[0]
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    return operator @ meshes.vertices[t], normals
