"""Pictures that are arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


class Image:
    """uint8 (H, W, 3|4), or (H, W) for one channel."""

    def __init__(self, pixels: Any) -> None:
        self.pixels = pixels

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.pixels

    def convert(self, mode: str) -> Image:
        """To RGB or RGBA."""
        if mode == "RGB" or self.pixels.shape[2] == 4:
            return Image(self.pixels[..., : len(mode)])
        alpha = np.full((*self.pixels.shape[:2], 1), 255, np.uint8)
        return Image(np.concatenate([self.pixels, alpha], axis=2))

    def getchannel(self, name: str) -> Image:
        """One channel by its letter."""
        return Image(self.pixels[..., "RGBA".index(name)])


def fromarray(pixels: Any) -> Image:
    """As Pillow's."""
    return Image(pixels)
