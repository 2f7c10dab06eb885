"""Decodes texture pictures, and reads their colours at the vertices.

Colours here are linear light, as glTF's COLOR_0 is; the pictures themselves are sRGB.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from meshes.sequence import MEDIA_TYPES, Texture

SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png"}


def check_texture(texture: Texture) -> None:
    """Raise ValueError unless the picture begins like its media type and the uv are finite."""
    signature = MEDIA_TYPES.get(texture.media_type)
    if signature is None:
        raise ValueError(f"a texture is image/jpeg or image/png, not {texture.media_type!r}")
    if not texture.image.startswith(signature):
        raise ValueError(f"the texture's bytes are not {texture.media_type}")
    if not np.isfinite(texture.uv).all():
        raise ValueError("texture coordinates hold values that are not finite")


def decode_texture(texture: Texture, largest_px: int) -> NDArray[np.uint8]:
    """sRGB pixels `(H, W, 3)`, reduced so that no side is longer than `largest_px`.

    Raises ValueError if the picture cannot be decoded.
    """
    check_texture(texture)
    encoded = np.frombuffer(texture.image, np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if picture is None:
        raise ValueError("the texture cannot be decoded")
    scale = largest_px / max(picture.shape[:2])
    if scale < 1:
        width, height = (max(1, round(side * scale)) for side in picture.shape[1::-1])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def sample_texture(picture: NDArray[np.uint8], uv: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Read sRGB colours `(N, 3)` at uv `(N, 2)`, bilinearly, edges clamped."""
    height, width = picture.shape[:2]
    # cv2.remap accepts at most 32,767 rows: fold the list into rows of 4,096
    rows = -(-len(uv) // 4096)
    places = np.zeros((rows * 4096, 2), np.float32)
    places[: len(uv)] = np.clip(uv, 0, 1) * (width, height) - np.float32(0.5)
    folded, border = places.reshape(rows, 4096, 2), cv2.BORDER_REPLICATE
    colors = cv2.remap(picture, folded, None, cv2.INTER_LINEAR, borderMode=border)
    return np.asarray(colors.reshape(-1, 3)[: len(uv)], dtype=np.uint8)


def srgb_to_linear(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Linear light in [0, 1] (IEC 61966-2-1), through a table of 256 entries."""
    x = np.arange(256) / 255
    table = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)
    return np.asarray(table[values])


def vertex_colors(texture: Texture) -> NDArray[np.uint8]:
    """The texture as linear RGBA `(V, 4)`, one colour per vertex. Raises ValueError."""
    colors = sample_texture(decode_texture(texture, 2048), texture.uv)
    rgba = np.full((len(colors), 4), 255, np.uint8)
    rgba[:, :3] = np.rint(srgb_to_linear(colors) * 255)
    return rgba
