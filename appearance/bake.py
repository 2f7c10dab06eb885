"""Paints the video's colours onto the mesh: makes its texture.

observe.py reads them from the frames, complete.py gives colours to the rest. Called by
child/appearance.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from appearance import OnProgress
from appearance.complete import complete
from appearance.light import brightness, estimate_light
from appearance.observe import Observed, observe
from appearance.texels import Texels, find_texels
from appearance.unwrap import Unwrapped
from meshes.gltf import LARGEST_FRAME_TEXTURE_BYTES
from meshes.normals import face_normals, vertex_normals
from meshes.sequence import MeshSequence, Texture
from meshes.view import View
from video.clip import Clip

SIZES_PX = 1024, 2048

_JPEG_QUALITIES = 90, 80, 70
"""With full chroma, or colours run over the edges of charts: 120 to 250 KB at 1024 px; a PNG is
three times as large."""
_COVERED = 0.55
"""This part of a texture is on the mesh."""
_FINE = 1.4
"""Frames with so many pixels for a texel of the small texture fill the large one."""


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
    light = _light_on(meshes, texels, observed, lambda: report(0.6))
    observed = replace(observed, colors=observed.colors / light)
    colors, mirrored = complete(meshes, texels, observed, _part(report, 0.6, 0.95))
    colors *= light
    picture = texels.picture(colors)
    report(0.98)
    image = _jpeg(picture)
    areas = texels.areas / texels.areas.sum()
    seen, from_mirror = float(areas @ observed.seen), float(areas @ mirrored)
    textured = MeshSequence(
        np.ascontiguousarray(meshes.vertices[:, unwrapped.vertex_map]),
        unwrapped.faces,
        meshes.fps,
        texture=Texture(image, "image/jpeg", unwrapped.uv),
        view=view,
        has_baked_light=True,
    )
    return Baked(textured, seen, from_mirror, max(0.0, 1 - seen - from_mirror))


def texture_size_px(meshes: MeshSequence, clip: Clip, view: View) -> int:
    """The larger of SIZES_PX if the frames show more than the smaller one holds, else that."""
    height, width = clip.frames.shape[1:3]
    towards = view.eyes - meshes.vertices.mean(axis=1)
    away = 1.0 if view.is_orthographic else float(np.median(towards @ view.axes[2]))
    pixels_a_unit = view.scaled_to(width, height).focal / away
    area = np.linalg.norm(face_normals(meshes.vertices[0], meshes.faces), axis=1).sum() / 2
    texels_a_unit = SIZES_PX[0] * np.sqrt(_COVERED / max(area, 1e-12))
    return SIZES_PX[int(pixels_a_unit > _FINE * texels_a_unit)]


def _part(report: OnProgress, start: float, end: float) -> OnProgress:
    return lambda done: report(start + (end - start) * done)


def _light_on(
    meshes: MeshSequence, texels: Texels, observed: Observed, report: Callable[[], None]
) -> NDArray[np.float32]:
    """How much brighter the video's light makes each texel: factors `(N, 1)`."""
    at_vertices = vertex_normals(meshes).mean(axis=0)
    report()
    normals = texels.operator() @ at_vertices
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
    seen = observed.seen > 0.9
    report()
    return brightness(estimate_light(observed.colors[seen], normals[seen]), normals)


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    """The picture, small enough for every file of one timestep, if a quality allows that."""
    for quality in _JPEG_QUALITIES:
        options = [
            *(cv2.IMWRITE_JPEG_QUALITY, quality),
            *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
        ]
        done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
        assert done
        if len(encoded) <= LARGEST_FRAME_TEXTURE_BYTES:
            break
    return bytes(encoded.tobytes())
