"""The mesh's textures: pictures of the subject, projected onto front and back.

The reference frame's picture is the texture of the whole clip; single frames may have their own.
Colours of the subject are extended over the background, so that no background colour shows at the
rim or through a renderer's filtering. Called by pipeline.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import Texture
from silhouette.crop import CroppedClip
from silhouette.surface_motion import Motion
from silhouette.triangulation import Mesh, averaging
from video.cores import in_order
from video.fields import Field, Points, sample_field

_JPEG_QUALITY = 88
_RIM_PX = 3
_LEAST_OVERLAP = 0.5
_VISIBLE_DIFFERENCE = 12
"""Of 255, around one vertex. A camera's noise gives 2 to 5."""
_VISIBLE_SHARE = 0.002
"""Of the front: an eye is about .005 of a whole figure."""


def make_texture(image: NDArray[np.uint8], alpha: Field, points: Points) -> Texture:
    """A JPEG of the part of RGB `image` `(H, W, 3)` in which `points` lie.

    `points` `(V, 2)` are the vertices' pixels in the image.
    """
    largest = np.array(alpha.shape[::-1])
    low = np.clip(np.floor(points.min(axis=0)) - _RIM_PX, 0, largest - 1).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + _RIM_PX + 1, low + 1, largest).astype(int)
    part = np.s_[low[1] : high[1], low[0] : high[0]]
    extended = _extend_colours(image[part], alpha[part])
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(extended, cv2.COLOR_RGB2BGR), options)
    uv = ((points + 0.5 - low) / (high - low)).clip(0, 1).astype(np.float32)
    return Texture(encoded.tobytes(), "image/jpeg", uv)


def frame_textures(
    cropped: CroppedClip,
    mesh: Mesh,
    motion: Motion,
    reference: int,
    overlaps: Sequence[float],
    tick: Callable[[], None],
) -> tuple[Texture | None, ...]:
    """Each frame's own picture as its texture, or None where the reference frame's serves better.

    Projected along the view, a frame's own picture is right wherever the surface is seen, so it is
    the rule: what changes, such as a blink, is then seen. That holds where tracking is poor, too:
    the reference picture smears there. None where surface and mask hardly meet (`overlaps`), for
    the picture is not of the subject; and where the reference picture, carried along `motion`,
    differs visibly in less than _VISIBLE_SHARE of the front: it is as good.
    """
    front = np.flatnonzero(mesh.points[:, 2] <= 0)
    mean = averaging(mesh.triangles, len(mesh.points))[front][:, front]

    def is_different(t: int) -> bool:
        """Compares colours at the front's vertices, averaged over neighbours against noise."""
        here, there = ((k, motion[k, front, :2]) for k in (t, reference))
        colours = [sample_field(cropped.images[k], points) for k, points in (here, there)]
        seen = [sample_field(cropped.alphas[k], points) > 0.9 for k, points in (here, there)]
        difference = mean @ np.abs(np.subtract(*colours, dtype=np.float32)).mean(axis=1)
        visible = (difference > _VISIBLE_DIFFERENCE) & seen[0] & seen[1]
        return bool(visible.mean() > _VISIBLE_SHARE)

    def own_texture(t: int) -> Texture | None:
        if t == reference or overlaps[t] <= _LEAST_OVERLAP or not is_different(t):
            return None
        return make_texture(cropped.images[t], cropped.alphas[t], motion[t, :, :2])

    textures: list[Texture | None] = []
    for texture in in_order(own_texture, range(len(motion))):
        textures.append(texture)
        tick()
    return tuple(textures)


def _extend_colours(image: NDArray[np.uint8], alpha: Field) -> NDArray[np.uint8]:
    """Give every pixel outside the subject's core the colour of the core's nearest pixel.

    Far from the rim the colours are blurred: they are never seen, and streaks would cost bytes.
    """
    core = (alpha > 0.95).astype(np.uint8)
    side = 2 * _RIM_PX + 1
    eroded = cv2.erode(core, np.ones((side, side), np.uint8))
    if np.count_nonzero(eroded) >= 0.3 * np.count_nonzero(core) and eroded.any():
        core = eroded
    elif not core.any():
        core = (alpha >= alpha.max()).astype(np.uint8)
    away, label = cv2.distanceTransformWithLabels(
        1 - core, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(label.max()) + 1, 3), np.uint8)
    colours[label[core > 0]] = image[core > 0]
    nearest = colours[label]
    soft = cv2.GaussianBlur(nearest, (0, 0), 6)
    far = np.clip((away - 8) / 8, 0, 1)
    return np.asarray(cv2.blendLinear(nearest, soft, 1 - far, far))
