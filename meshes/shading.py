"""How a surface is lit in the preview: a studio with a key, a fill and a rim light, fixed to the
camera, and a light dome. Linear light in, sRGB out; traces nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]

CLAY = (0.58, 0.49, 0.42)
"""Linear albedo of a mesh without colour: a warm, light stone."""

# unit vectors towards the lights in camera axes: right, up, towards the viewer
_KEY = np.array([-0.48, 0.66, 0.58], np.float32)
_FILL = np.array([0.75, 0.15, 0.64], np.float32)
_RIM = np.array([0.35, 0.55, -0.76], np.float32)
_KEY_POWER, _FILL_POWER, _RIM_POWER = 0.64, 0.18, 0.30
_SKY_POWER, _GROUND_POWER = 0.62, 0.36
_WRAP = 0.25
"""How far the key light reaches behind the edge of its shadow: a large, soft box."""


def facing_normals(normals: Rows, flat_normals: Rows, rays: Rows) -> Rows:
    """Unit normals `(N, 3)` on the side that is seen.

    The flat triangle's normal tells which side that is. An interpolated one can look away although
    the triangle does not, all along an outline: it is bent back until it is just seen.
    """
    side = np.where(np.einsum("ij,ij->i", flat_normals, rays) > 0, np.float32(-1), np.float32(1))
    normals = normals * side[:, None]
    away = np.maximum(np.einsum("ij,ij->i", normals, rays), 0)
    normals -= rays * (away / np.einsum("ij,ij->i", rays, rays))[:, None]
    normals /= np.maximum(_length(normals), 1e-20)[:, None]
    return np.asarray(normals)


def shade(albedo: Rows, normals: Rows, rays: Rows, openness: Rows, axes: Rows) -> Rows:
    """Linear colours `(N, 3)`, about [0, 1], of lit points with unit normals that face the eye.

    `albedo` is `(N, 3)` or `(3,)`, `rays` `(N, 3)` lead from the eye to the points, `openness`
    `(N,)` is the share of the dome that each point sees, `axes` `(3, 3)` are the camera's.
    """
    facing = -np.einsum("ij,ij->i", normals, rays) / _length(rays)
    key = np.clip((normals @ (_KEY @ axes) + _WRAP) / (1 + _WRAP), 0, 1)
    fill = np.clip(normals @ (_FILL @ axes), 0, 1)
    rim = np.clip(normals @ (_RIM @ axes), 0, 1) * (1 - facing) ** 2
    dome = _GROUND_POWER + (_SKY_POWER - _GROUND_POWER) * (0.5 + 0.5 * normals[:, 1])
    # lights are large: a nook that sees little of the dome sees little of them too
    lit = openness * dome + np.sqrt(openness) * (_KEY_POWER * key * key + _FILL_POWER * fill)
    return np.asarray(albedo * lit[:, None] + (_RIM_POWER * rim * openness)[:, None], np.float32)


def to_srgb(linear: Rows) -> Rows:
    """sRGB values 0..255 in float32, with a shoulder instead of a hard clip at white."""
    steps = np.minimum(linear * (len(_SRGB) / 2), len(_SRGB) - 1).astype(np.int32)
    return np.asarray(_SRGB[steps], np.float32)


def _srgb_table(size: int = 8192) -> Rows:
    """sRGB of linear light 0..2: straight up to 0.7, then bent towards 1."""
    x = np.arange(size) / (size / 2)
    knee = 0.7
    x = np.where(x < knee, x, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))))
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, np.float32)


_SRGB = _srgb_table()


def _length(rows: Rows) -> Rows:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)))
