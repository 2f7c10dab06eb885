"""Reads the video's colours at the texels, through the view. Fills nothing.

Each frame gives every texel a colour and a weight: how squarely the camera sees the surface there,
and how far the next outline is, where the background or another part of the body may show.
Called by bake.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray
from scipy.sparse import csr_array

from appearance import OnProgress
from appearance.texels import Texels
from meshes.normals import vertex_normals
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip

_OPAQUE = 250
"""The least alpha of a pixel whose colour is used: 0 hides any colour, and edges are mixed."""
_RAMP_PX = 5.0
"""So far from an outline a pixel counts fully, in frames whose subject is _RAMP_OF px large."""
_RAMP_OF = 400.0
_MISSED = 1.5
"""A nearer part hides what is next to it: so many times as far as outlines are off."""
_MOST_PX = 8.0
_BEHIND = 0.5
"""Of that depth: brows lie close to the head, and must not be painted on it."""
_SQUARE = np.ones((3, 3), np.uint8)
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_DEPTH_EDGE = 0.06
"""Neighbouring pixels that differ by more in depth lie on two parts. Of the mesh's radius."""
_DEPTH_SLACK = 0.015
_GRAZING = 0.12
"""Cosine of the angle between the normal and the way to the camera: below it nothing is seen."""
_SHARPNESS = 4
_SURELY_SEEN = 0.15
_TEXELS, _SAMPLES = 1 << 15, 1 << 20
"""Of how many texels, with how many colours of them in all frames, a mean is made at a time."""
_REPETITIONS = 4
_DEVIATION = 0.09
"""How far frames may differ in each colour before they lose weight."""
_LEAST_AGREEMENT = 1e-4


@dataclass(frozen=True)
class Picture:
    """The part of one frame that shows the subject, `(h, w)`, from pixel (`left`, `top`).

    `rgba` uint8 `(h, w, 4)` lies in the clip's memory; `depth` float32 along the optical axis, 0
    where there is no mesh; `trust` uint8: 255 far from all outlines, 0 on them and outside.
    """

    view: View
    left: int
    top: int
    rgba: NDArray[np.uint8]
    depth: NDArray[np.float32]
    trust: NDArray[np.uint8]


@dataclass(frozen=True)
class Observed:
    """Colours float32 `(N, 3)`, 0 to 1, and how surely each texel was `seen`, 0 to 1, `(N,)`."""

    colors: NDArray[np.float32]
    seen: NDArray[np.float32]


def observe(
    meshes: MeshSequence, clip: Clip, view: View, texels: Texels, report: OnProgress
) -> Observed:
    """The colours of all texels that a frame shows."""
    radius = float(np.linalg.norm(np.ptp(meshes.vertices[0], axis=0))) / 2
    pictures = []
    for t in range(len(meshes)):
        report(0.4 * t / len(meshes))
        pictures.append(_picture(meshes, clip, view, t, radius))
    normals = vertex_normals(meshes)
    seen_from = [
        _at_vertices(meshes.vertices[t], normals[t], picture.view, t)
        for t, picture in enumerate(pictures)
    ]
    colors = np.zeros((len(texels), 3), np.float32)
    seen = np.zeros(len(texels), np.float32)
    count = min(_TEXELS, _SAMPLES // len(meshes))
    for start in range(0, len(texels), count):
        part = slice(start, start + count)
        report(0.4 + 0.6 * start / len(texels))
        sampled, weights = _sample(texels.operator(part), seen_from, pictures, radius)
        seen[part] = np.clip(weights.max(axis=0) / _SURELY_SEEN, 0, 1)
        colors[part] = blend(sampled, weights**_SHARPNESS)
    return Observed(colors, seen)


def _sample(
    operator: csr_array,
    seen_from: list[NDArray[np.float32]],
    pictures: list[Picture],
    radius: float,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Colours uint8 `(T, n, 3)` of the operator's texels in all frames, and weights `(T, n)`."""
    count = operator.shape[0]
    colors = np.zeros((len(pictures), count, 3), np.uint8)
    weights = np.zeros((len(pictures), count), np.float32)
    for t, (values, picture) in enumerate(zip(seen_from, pictures, strict=True)):
        uw, vw, w, depth, facing = (operator @ values).T
        near = np.flatnonzero(facing > _GRAZING)
        x, y = uw[near] / w[near] - picture.left, vw[near] / w[near] - picture.top
        height, width = picture.depth.shape
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        near, x, y = near[inside], x[inside], y[inside]
        column, row = x.astype(np.int32), y.astype(np.int32)
        trust = picture.trust[row, column]
        front = (trust > 0) & (depth[near] < picture.depth[row, column] + _DEPTH_SLACK * radius)
        near, x, y, trust = near[front], x[front], y[front], trust[front]
        colors[t, near] = _bilinear(picture.rgba, x, y)
        weights[t, near] = (facing[near] - _GRAZING) / (1 - _GRAZING) * (trust / np.float32(255))
    return colors, weights


def blend(colors: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean `(n, 3)`, 0 to 1, of colours `(T, n, 3)` with weights `(T, n)`.

    Frames whose colour is far from the others' lose weight, as in M-estimation (Welsch).
    """
    mean = np.zeros(colors.shape[1:], np.float32)
    some = np.flatnonzero(weights.any(axis=0))
    given, weights = colors[:, some] / np.float32(255), weights[:, some]
    found = _mean(given, weights)
    for _ in range(_REPETITIONS):
        off = ((given - found) ** 2).sum(axis=2)
        again = weights * np.exp(off * np.float32(-0.5 / (3 * _DEVIATION**2)))
        agree = again.sum(axis=0) > _LEAST_AGREEMENT * weights.sum(axis=0)
        found[agree] = _mean(given[:, agree], again[:, agree])
    mean[some] = found
    return mean


def _mean(colors: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(np.einsum("tnc,tn->nc", colors, weights) / weights.sum(axis=0)[:, None])


def _bilinear(
    picture: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Colours `(n, 3)` of an RGBA picture at points `(n,)`."""
    # cv2.remap accepts at most 32,767 rows: fold the list into rows of 1,024
    rows = -(-len(x) // 1024)
    if rows == 0:
        return np.zeros((0, 3), np.uint8)
    folded = np.zeros((2, rows * 1024), np.float32)
    folded[0, : len(x)], folded[1, : len(x)] = x - 0.5, y - 0.5
    across, down = folded.reshape(2, rows, 1024)
    found = cv2.remap(picture, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found.reshape(-1, 4)[: len(x), :3], np.uint8)


def _at_vertices(
    positions: NDArray[np.float32], normals: NDArray[np.float32], view: View, t: int
) -> NDArray[np.float32]:
    """How the camera sees vertices `(V, 3)`, as values `(V, 5)` that are linear on faces.

    u w, v w and w, where (u, v) is the picture's point; the depth; and the cosine of the angle
    between the normal and the way to the camera.
    """
    p = positions.astype(np.float64)
    at = np.column_stack([p, np.ones(len(p))]) @ view.matrix(t).T
    if view.is_orthographic:
        towards = np.broadcast_to(view.axes[2], p.shape)
    else:
        towards = view.eyes[t] - p
    depth = -(p - view.eyes[t]) @ view.axes[2]
    facing = np.einsum("ij,ij->i", towards, normals) / np.linalg.norm(towards, axis=1)
    return np.column_stack([at, depth, facing]).astype(np.float32)


def _picture(meshes: MeshSequence, clip: Clip, view: View, t: int, radius: float) -> Picture:
    frame = clip.frames[t]
    height, width = frame.shape[:2]
    view = view.scaled_to(width, height)
    alpha = frame[..., 3]
    rows, columns = np.flatnonzero(alpha.any(axis=1)), np.flatnonzero(alpha.any(axis=0))
    if not len(rows):  # no subject: one pixel, of which nothing is used
        rows = columns = np.arange(1)
    top, left = int(rows[0]), int(columns[0])
    crop = frame[top : rows[-1] + 1, left : columns[-1] + 1]
    opaque = crop[..., 3] >= _OPAQUE
    depth = _depth(meshes, view, t, opaque, left, top)
    trust = _trust(opaque, depth, _DEPTH_EDGE * radius)
    return Picture(view, left, top, crop, depth, trust)


def _trust(opaque: NDArray[np.bool_], depth: NDArray[np.float32], edge: float) -> NDArray[np.uint8]:
    """How far each pixel is from outlines, 0 to 255.

    The mesh's outline is some pixels off the subject's: so the colours of a nearer part may show
    on those next to it. Neighbours differ by `edge` in depth where one part is before another.
    """
    is_hit = depth > 0
    outline = opaque & ~cv2.erode(opaque.astype(np.uint8), _CROSS).astype(bool)
    missed = 2 * np.count_nonzero(opaque & ~is_hit) / max(np.count_nonzero(outline), 1)
    scale = max(opaque.shape) / _RAMP_OF
    off = int(np.ceil(min(_MISSED * missed, _MOST_PX * scale)))
    filled = np.where(is_hit, depth, depth.max())
    around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * off + 1, 2 * off + 1))
    is_edge = cv2.dilate(filled, _SQUARE) - cv2.erode(filled, _SQUARE) > edge
    is_behind = filled - cv2.erode(filled, around) > _BEHIND * edge
    inside = np.pad((opaque & is_hit & ~is_edge & ~is_behind).astype(np.uint8), 1)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 3)[1:-1, 1:-1] - 1
    return np.asarray(np.clip(away / (_RAMP_PX * scale), 0, 1) * 255, np.uint8)


def _depth(
    meshes: MeshSequence, view: View, t: int, mask: NDArray[np.bool_], left: int, top: int
) -> NDArray[np.float32]:
    """Depth `(h, w)` of the mesh at the mask's pixels, 0 elsewhere and where there is no mesh.

    The mask's first pixel is the picture's pixel (`left`, `top`).
    """
    scene = EmbreeScene()
    TriangleMesh(scene, meshes.vertices[t], meshes.faces)
    y, x = np.nonzero(mask)
    right, up = x + left + 0.5 - view.width / 2, view.height / 2 - (y + top + 0.5)
    plane = np.column_stack([right, up]) / view.focal
    backward = view.axes[2]
    across = plane @ view.axes[:2]
    if view.is_orthographic:
        origins, rays = view.eyes[t] + across, np.broadcast_to(-backward, across.shape)
    else:
        origins, rays = np.broadcast_to(view.eyes[t], across.shape), across - backward
    hit = scene.run(origins.astype(np.float32), rays.astype(np.float32), output=True)
    depth = np.zeros(mask.shape, np.float32)
    depth[y, x] = np.where(hit["primID"] >= 0, hit["tfar"], 0)
    return depth
