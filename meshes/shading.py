"""Lighting of the preview: key, fill and rim light, fixed to the camera, and a light dome.

Linear light in, sRGB out. Traces no rays; called by renderer.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.floating]

CLAY = (0.58, 0.49, 0.42)
"""Linear albedo of a mesh without colour."""

# unit vectors towards the lights in camera axes: right, up, towards the viewer
_KEY = np.array([-0.48, 0.66, 0.58], np.float32)
_FILL = np.array([0.75, 0.15, 0.64], np.float32)
_RIM = np.array([0.35, 0.55, -0.76], np.float32)
_KEY_POWER, _FILL_POWER, _RIM_POWER = 0.64, 0.18, 0.30
_SKY_POWER, _GROUND_POWER = 0.62, 0.36
_WRAP = 0.25
"""How far the key light, a large soft box, reaches behind the edge of its shadow."""


def lights_of(axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors `(3, 3)` towards key, fill and rim light, for a camera with these axes."""
    return np.asarray(np.stack([_KEY, _FILL, _RIM]) @ axes)


def facing_normals(normals: Rows, flat_normals: Rows, rays: Rows) -> Rows:
    """Unit normals `(N, 3)` on the side that is seen.

    The triangle's own normal gives the visible side. An interpolated normal can point away although
    the triangle does not, along outlines: it is bent until it just faces the viewer.
    """
    turned = _dot(flat_normals, rays) > 0
    outward = normals * (1 - 2 * turned)[:, None]
    away = _dot(outward, rays).clip(0)
    bent = outward - rays * (away / _dot(rays, rays))[:, None]
    return np.asarray(bent / _length(bent).clip(1e-20)[:, None])


def shade(albedo: Rows, normals: Rows, rays: Rows, openness: Rows, lights: Rows) -> Rows:
    """Linear colours `(N, 3)`, about [0, 1], of lit points with unit normals that face the eye.

    `albedo` is `(N, 3)` or `(3,)`, `rays` `(N, 3)` lead from the eye to the points, `openness`
    `(N,)` is the share of the dome that each point sees, `lights` `(3, 3)` are the camera's.
    """
    facing = -_dot(normals, rays) / _length(rays)
    key_cosine, fill_cosine, rim_cosine = (normals @ lights.T).T
    key = ((key_cosine + _WRAP) / (1 + _WRAP)).clip(0, 1)
    fill = fill_cosine.clip(0, 1)
    rim = rim_cosine.clip(0, 1) * (1 - facing) ** 2
    dome = _GROUND_POWER + (_SKY_POWER - _GROUND_POWER) * (0.5 + 0.5 * normals[:, 1])
    # lights are large: a point that sees little of the dome sees little of them too
    lit = openness * dome + openness**0.5 * (_KEY_POWER * key * key + _FILL_POWER * fill)
    return np.asarray(albedo * lit[:, None] + (_RIM_POWER * rim * openness)[:, None])


def to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB values 0..255 in float32, with a shoulder instead of a hard clip at white."""
    steps = np.minimum(linear * (len(_SRGB) / 2), len(_SRGB) - 1).astype(np.int32)
    return np.asarray(_SRGB[steps], np.float32)


def _srgb_table(size: int = 8192) -> NDArray[np.float32]:
    """sRGB of linear light 0..2: straight up to 0.7, then bent towards 1."""
    x = np.arange(size) / (size / 2)
    knee = 0.7
    x = np.where(x < knee, x, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))))
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, np.float32)


_SRGB = _srgb_table()
"""sRGB 0..255 of linear light from 0 up to 2, in even steps."""


def _dot(a: Rows, b: Rows) -> Rows:
    return np.asarray(a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])


def _length(rows: Rows) -> Rows:
    return np.asarray(_dot(rows, rows) ** 0.5)
