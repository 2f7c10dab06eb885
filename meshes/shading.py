"""How a surface is lit in the preview: a studio with a key, a fill and a rim light, fixed to the
camera, and a light dome. Linear light in, sRGB out; traces nothing.

What light does is said once for both renderers: with operators that numpy's arrays and torch's
tensors share, so that it runs on the CPU and on a GPU.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Rows = TypeVar("Rows", NDArray[np.float32], Any)
"""An array, or a torch.Tensor, in float32."""

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


def lights_of(axes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors `(3, 3)` towards key, fill and rim light, for a camera with these axes."""
    return np.asarray(np.stack([_KEY, _FILL, _RIM]) @ axes)


def facing_normals(normals: Rows, flat_normals: Rows, rays: Rows) -> Rows:
    """Unit normals `(N, 3)` on the side that is seen.

    The flat triangle's normal tells which side that is. An interpolated one can look away although
    the triangle does not, all along an outline: it is bent back until it is just seen.
    """
    turned = _dot(flat_normals, rays) > 0
    normals = normals * (1 - 2 * turned)[:, None]
    away = _dot(normals, rays).clip(0)
    normals = normals - rays * (away / _dot(rays, rays))[:, None]
    unit: Rows = normals / _length(normals).clip(1e-20)[:, None]
    return unit


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
    # lights are large: a nook that sees little of the dome sees little of them too
    lit = openness * dome + openness**0.5 * (_KEY_POWER * key * key + _FILL_POWER * fill)
    linear: Rows = albedo * lit[:, None] + (_RIM_POWER * rim * openness)[:, None]
    return linear


def to_srgb(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """sRGB values 0..255 in float32, with a shoulder instead of a hard clip at white."""
    steps = np.minimum(linear * (len(SRGB) / 2), len(SRGB) - 1).astype(np.int32)
    return np.asarray(SRGB[steps], np.float32)


def _srgb_table(size: int = 8192) -> NDArray[np.float32]:
    """sRGB of linear light 0..2: straight up to 0.7, then bent towards 1."""
    x = np.arange(size) / (size / 2)
    knee = 0.7
    x = np.where(x < knee, x, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))))
    encoded = np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)
    return np.asarray(encoded * 255, np.float32)


SRGB = _srgb_table()
"""sRGB 0..255 of linear light from 0 up to 2, in even steps."""


def _dot(a: Rows, b: Rows) -> Rows:
    product: Rows = a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2]
    return product


def _length(rows: Rows) -> Rows:
    length: Rows = _dot(rows, rows) ** 0.5
    return length
