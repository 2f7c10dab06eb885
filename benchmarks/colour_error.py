"""How far a texture's colours are from the true ones of a truth clip. Used by quality_case.py.

A texture holds the video's light too, so the true colours are those of the clip's frames: the
surface's own, under the clip's light.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.truth import Truth
from meshes.normals import face_normals, sum_of_faces
from meshes.sequence import MeshSequence
from meshes.texture import decode_texture, sample_texture, srgb_to_linear

TO_LIGHT = np.array([0.35, 0.8, 0.5]) / np.linalg.norm([0.35, 0.8, 0.5])
AMBIENT, DIRECT = 0.65, 0.35
"""The light of the clips, in the mesh's space: TEST_MEDIA/truth/README.md."""

TIMESTEPS = 4
RESULT_POINTS, TRUE_POINTS = 10_000, 100_000
NORMAL_WEIGHT = 0.1
"""Of the nearest true point, that the two sides of a thin part are not confused."""
SEEN_COSINE = 0.3
"""Of the angle between normal and camera: nearer to edge-on a point is not seen well enough to
tell its colour."""


@dataclass(frozen=True)
class ColourError:
    """Mean absolute differences of sRGB values, 0 to 255, of the surface that the video shows, and
    of that which only other sides show.

    `flat_...` are those of one colour: the mean of the seen surface.
    """

    seen: float
    unseen: float
    flat_seen: float
    flat_unseen: float


@dataclass(frozen=True)
class SurfacePoints:
    """Points that stay on their places of a mesh: faces `(N,)`, barycentric weights `(N, 3)`."""

    faces: NDArray[np.intp]
    weights: NDArray[np.float64]

    def at(self, corners: NDArray[np.int32], values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Values `(V, C)` at the points `(N, C)`; `corners` `(F, 3)` are the faces' vertices."""
        return np.asarray(np.einsum("nk,nkc->nc", self.weights, values[corners[self.faces]]))


def colour_error(truth: Truth, result: MeshSequence) -> ColourError:
    """Compare the texture of `result` with the nearest true surface, at some timesteps."""
    assert result.texture is not None
    times = np.linspace(0, len(result) - 1, TIMESTEPS).round().astype(int)
    points = surface_points(result, RESULT_POINTS)
    true_points = surface_points(truth.meshes, TRUE_POINTS)
    albedo = true_albedo(truth.meshes, true_points)
    picture = decode_texture(result.texture, 4096)
    uv = points.at(result.faces, result.texture.uv).astype(np.float32)
    painted = sample_texture(picture, uv).astype(float)
    wanted = []
    for t in times:
        nearest = _nearest(truth.meshes, true_points, result, points, t)
        wanted.append(albedo[nearest] * light(truth.meshes, t, true_points)[nearest, None])
    lit = np.stack(wanted)
    is_seen = seen_points(result, truth.view.eyes, points)
    chosen = replace(result, vertices=result.vertices[times], view=None, frame_textures=())
    is_unseen = outer_points(chosen, points) & ~is_seen
    flat = lit[:, is_seen].mean(axis=(0, 1))
    errors, flat_errors = (np.abs(lit - colours).mean(axis=(0, 2)) for colours in (painted, flat))
    parts = ((found, where) for found in (errors, flat_errors) for where in (is_seen, is_unseen))
    return ColourError(*(float(found[where].mean()) for found, where in parts))


def surface_points(meshes: MeshSequence, count: int) -> SurfacePoints:
    """Random points, spread evenly over the surface of the first timestep."""
    areas = np.linalg.norm(face_normals(meshes.vertices[0].astype(float), meshes.faces), axis=1)
    random = np.random.default_rng(0)
    faces = random.choice(len(areas), count, p=areas / areas.sum())
    return SurfacePoints(faces, random.dirichlet([1, 1, 1], count))


def true_albedo(meshes: MeshSequence, points: SurfacePoints) -> NDArray[np.float64]:
    """sRGB 0 to 255 `(N, 3)` without light."""
    if meshes.texture is not None:
        uv = points.at(meshes.faces, meshes.texture.uv).astype(np.float32)
        # the clips' textures repeat
        return sample_texture(decode_texture(meshes.texture, 4096), uv % 1).astype(float)
    assert meshes.colors is not None
    levels = np.arange(256, dtype=np.uint8)
    srgb = np.interp(meshes.colors[:, :3] / 255, srgb_to_linear(levels), levels)
    return points.at(meshes.faces, srgb)


def light(meshes: MeshSequence, t: int, points: SurfacePoints) -> NDArray[np.float64]:
    """What the clip's light makes of the points' albedo at timestep `t`: factors `(N,)`."""
    return np.asarray(AMBIENT + DIRECT * np.maximum(_normals(meshes, t, points) @ TO_LIGHT, 0))


def seen_points(
    meshes: MeshSequence, eyes: NDArray[np.float64], points: SurfacePoints
) -> NDArray[np.bool_]:
    """Which points are seen in at least one timestep from its eye `(T, 3)`: `(N,)`."""
    seen = np.zeros(len(points.faces), bool)
    for t, vertices in enumerate(meshes.vertices):
        normals = _normals(meshes, t, points)
        places = points.at(meshes.faces, vertices)
        to_eye = eyes[t] - places
        distance = np.linalg.norm(to_eye, axis=1)
        to_eye /= distance[:, None]
        facing = np.flatnonzero((np.einsum("nc,nc->n", to_eye, normals) > SEEN_COSINE) & ~seen)
        scene = EmbreeScene()
        TriangleMesh(scene, vertices, meshes.faces)
        step = 2e-3 * float(np.ptp(vertices, axis=0).max())  # off the surface that the ray leaves
        origins = (places + step * normals)[facing].astype(np.float32)
        reach = distance[facing].astype(np.float32)
        rays = to_eye[facing].astype(np.float32)
        hit = scene.run(origins, rays, dists=reach, query="OCCLUDED")
        seen[facing[hit < 0]] = True
    return seen


def outer_points(meshes: MeshSequence, points: SurfacePoints) -> NDArray[np.bool_]:
    """Which points can be seen from any side at all: not those inside of a joint `(N,)`."""
    count = len(meshes)
    far = 20 * float(np.ptp(meshes.vertices[0], axis=0).max())
    sides = [np.array(side) for side in product((-1, 0, 1), repeat=3) if any(side)]
    eyes = (np.tile(far * side / np.linalg.norm(side), (count, 1)) for side in sides)
    return np.asarray(np.any([seen_points(meshes, each, points) for each in eyes], axis=0))


def _nearest(
    truth: MeshSequence, true: SurfacePoints, result: MeshSequence, points: SurfacePoints, t: int
) -> NDArray[np.intp]:
    """The nearest true point of each result's point, by position and direction."""
    weight = NORMAL_WEIGHT * float(np.ptp(truth.vertices[t], axis=0).max())
    known, asked = (
        np.hstack([chosen.at(m.faces, m.vertices[t]), weight * _normals(m, t, chosen)])
        for m, chosen in ((truth, true), (result, points))
    )
    return np.asarray(cKDTree(known).query(asked)[1])


def _normals(meshes: MeshSequence, t: int, points: SurfacePoints) -> NDArray[np.float64]:
    """Unit normals `(N, 3)`, interpolated between vertices that are not welded, as in the clips."""
    vertices = meshes.vertices[t].astype(float)
    gather = sum_of_faces(meshes.faces, len(vertices))
    summed = gather @ face_normals(vertices, meshes.faces)
    summed /= np.maximum(np.linalg.norm(summed, axis=1, keepdims=True), 1e-12)
    normals = points.at(meshes.faces, summed)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals
