"""Paints the video's colours onto the mesh: makes its texture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from appearance import OnProgress
from appearance.fill import conductances, spread
from appearance.light import estimate_light
from appearance.mirror import Mirror, find_mirror, opposite
from appearance.observe import Observed, observe
from appearance.texels import Texels, find_texels
from appearance.unwrap import Unwrapped
from meshes.normals import vertex_normals, weld
from meshes.sequence import MeshSequence, Texture
from meshes.view import View
from video.clip import Clip

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Baked:
    """The meshes with a texture, and which parts of its surface have which colours, 0 to 1.

    `seen` in the video, `mirrored` from the other side of the body, `filled` from around it.
    """

    meshes: MeshSequence
    seen: float
    mirrored: float
    filled: float


def bake_texture(
    meshes: MeshSequence,
    clip: Clip,
    view: View,
    unwrapped: Unwrapped,
    size_px: int,
    report: OnProgress,
) -> Baked:
    """The meshes with `unwrapped`'s vertices and a square texture of `size_px`.

    The clip has alpha and a frame for each timestep. Raises what `report` raises.
    """
    texels = find_texels(meshes.vertices[0], unwrapped, size_px, _part(report, 0, 0.1))
    observed = observe(meshes, clip, view, texels, _part(report, 0.1, 0.6))
    light = _light_on(meshes, texels, observed)
    unlit = replace(observed, colors=observed.colors / light)
    colors, mirrored = _completed(meshes, texels, unlit, _part(report, 0.6, 0.95))
    image = _jpeg(texels.picture(colors * light))
    areas = texels.areas / texels.areas.sum()
    seen, from_mirror = float(areas @ observed.seen), float(areas @ mirrored)
    textured = MeshSequence(
        np.ascontiguousarray(meshes.vertices[:, unwrapped.vertex_map]),
        unwrapped.faces,
        meshes.fps,
        texture=Texture(image, "image/jpeg", unwrapped.uv),
        view=view,
    )
    return Baked(textured, seen, from_mirror, max(0.0, 1 - seen - from_mirror))


def _part(report: OnProgress, start: float, end: float) -> OnProgress:
    return lambda done: report(start + (end - start) * done)


def _light_on(meshes: MeshSequence, texels: Texels, observed: Observed) -> NDArray[np.float32]:
    """How much brighter the video's light makes each texel: factors `(N, 1)`."""
    normals = texels.operator() @ vertex_normals(meshes).mean(axis=0)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    seen = observed.seen > 0.9
    return estimate_light(observed.colors[seen], normals[seen]).on(normals)


def _completed(
    meshes: MeshSequence, texels: Texels, observed: Observed, report: OnProgress
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The colours of all texels `(N, 3)`, and how far each is mirrored `(N,)`, 0 to 1."""
    welded = weld(meshes.vertices[0])
    vertices = meshes.vertices[:, np.unique(welded, return_index=True)[1]]
    surface = _Surface(
        texels.operator(welded=welded)[:, : vertices.shape[1]],
        conductances(vertices[[0, len(vertices) // 2]], welded[meshes.faces]),
    )
    mirror = find_mirror(vertices, _part(report, 0, 0.2))
    colors, mirrored = observed.colors, np.zeros(len(texels), np.float32)
    if mirror is not None:
        colors, mirrored = _mirrored(
            meshes, texels, observed, mirror, surface, _part(report, 0.2, 0.7)
        )
    known = observed.seen + mirrored
    filled = surface.spread(colors, known, _part(report, 0.7, 1))
    mixed = colors * known[:, None] + filled * (1 - known)[:, None]
    return mixed.astype(np.float32), mirrored


def _mirrored(
    meshes: MeshSequence,
    texels: Texels,
    observed: Observed,
    mirror: Mirror,
    surface: _Surface,
    report: OnProgress,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The colours with those of the other side where that is better, and how far it is."""
    random = np.random.default_rng(0)
    seen = observed.seen
    asked = np.flatnonzero((seen < 1) | (random.random(len(texels)) < 0.1))
    other = opposite(meshes, mirror, texels, seen, asked, _part(report, 0, 0.7))
    there = observed.colors[other.source]
    both = np.flatnonzero((seen > 0.9) & (other.share > 0.5))
    if len(both) > 1500:
        differs = np.abs(there[both] - observed.colors[both]).mean()
        anyway = np.abs(observed.colors[both] - observed.colors[random.permutation(both)]).mean()
        if differs > 1.3 * anyway:
            return observed.colors, np.zeros(len(texels), np.float32)
    share = other.share * (1 - seen)
    seam = seen * other.share
    off = surface.spread(
        np.clip(observed.colors - there, -0.3, 0.3), seam, _part(report, 0.7, 1), leak=0.03
    )
    corrected = there + np.clip(off, -0.1, 0.1)
    total = np.maximum(seen + share, 1e-6)[:, None]
    mixed = (observed.colors * seen[:, None] + corrected * share[:, None]) / total
    return mixed.astype(np.float32), share


@dataclass(frozen=True)
class _Surface:
    """Where texels lie among the mesh's vertices, and how colours flow between those."""

    to_texels: csr_array
    flows: csr_array

    def spread(
        self,
        colors: NDArray[np.float32],
        weights: NDArray[np.float32],
        report: OnProgress,
        leak: float = 0.0,
    ) -> NDArray[np.float32]:
        """Colours `(N, 3)` of all texels from those with weights `(N,)`; see fill.spread.

        With `leak` they die off to 0 within a few edges.
        """
        total = self.to_texels.T @ weights
        most = self.to_texels.T @ np.ones_like(weights)
        values = self.to_texels.T @ (colors * weights[:, None]) / np.maximum(total, 1e-9)[:, None]
        known = np.clip(total / np.maximum(most, 1e-9), 0, 1) ** 2 * 20
        values = values * (known / np.maximum(known + leak, 1e-9))[:, None]
        found = self.to_texels @ spread(self.flows, values, known + leak, report)
        return np.asarray(found, np.float32)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ]
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    assert done
    return bytes(encoded.tobytes())
