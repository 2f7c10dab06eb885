"""The mesh's texture: the reference frame, projected onto front and back.

Colours of the subject are extended over the background, so that no background colour shows at the
rim or through a renderer's filtering. Called by pipeline.py.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import Texture
from video.fields import Field, Points

_JPEG_QUALITY = 88
_RIM_PX = 3


def make_texture(image: NDArray[np.uint8], alpha: Field, points: Points) -> Texture:
    """A JPEG of RGB `image` `(H, W, 3)`; `points` `(V, 2)` are the vertices' pixels in it."""
    height, width = alpha.shape
    extended = _extend_colours(image, alpha)
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(extended, cv2.COLOR_RGB2BGR), options)
    uv = ((points + 0.5) / (width, height)).clip(0, 1).astype(np.float32)
    return Texture(encoded.tobytes(), "image/jpeg", uv)


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
    far = np.clip((away - 8) / 8, 0, 1)[..., None]
    return np.asarray((nearest * (1 - far) + soft * far).astype(np.uint8))
