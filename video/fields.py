"""Images as fields of numbers: their types, gradients, and values between pixels.

Positions are pixels: x to the right, y down, pixel centres at integers. Used by subject/ and
silhouette/; decodes nothing.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
"""One value per pixel, `(H, W)`, or per pixel and channel, `(H, W, C)`."""
Mask = NDArray[np.bool_]
"""`(H, W)`."""
Points = NDArray[np.float64]
"""Positions or displacements `(N, 2)` as x, y."""

_REMAP_COLUMNS = 32_000
"""cv2.remap refuses more than 32767 columns."""


def gradient(field: Field) -> Field:
    """Central differences, smoothed across (Sobel): `(H, W, 2)` per pixel."""
    along_x = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    return np.dstack([along_x, cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)])


def sample_field(field: NDArray[Any], points: Points) -> NDArray[Any]:
    """Bilinear values at `points`, `(N,)` or `(N, C)`; outside the image the nearest edge value."""
    where = np.ascontiguousarray(points, np.float32)
    out = np.empty((len(where), *field.shape[2:]), field.dtype)
    for start in range(0, len(where), _REMAP_COLUMNS):
        part = np.s_[start : start + _REMAP_COLUMNS]
        row, border = where[None, part], cv2.BORDER_REPLICATE
        out[part] = cv2.remap(field, row, None, cv2.INTER_LINEAR, borderMode=border)[0]
    return out


def warp(field: Field, where: Field) -> Field:
    """`field` at the positions `where` `(H, W, 2)`; outside the image the nearest edge value."""
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.remap(field, where, None, cv2.INTER_LINEAR, borderMode=border))
