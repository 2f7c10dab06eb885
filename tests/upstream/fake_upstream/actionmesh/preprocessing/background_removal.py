"""Frames that have no alpha."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from actionmesh.preprocessing.image_processor import is_valid_alpha


class _Model:
    """It is not called, and neither are its hooks."""

    def register_forward_hook(self, _hook: Any) -> Any:
        return SimpleNamespace(remove=lambda: None)


class BackgroundRemover:
    def __init__(
        self,
        rmbg_weights_dir: str = "briaai/RMBG-1.4",
        model_input_size: tuple[int, int] = (1024, 1024),
    ):
        self.device = "cpu"
        self.model = _Model()

    def _has_a_valid_alpha_mask(self, image: Any, threshold: int = 127) -> bool:
        pixels = np.array(image)
        return bool(pixels.shape[2] == 4 and is_valid_alpha(pixels[..., 3]))

    def process_image(self, image: Any) -> Any:
        pixels = np.array(image)[..., :3]
        dark = np.where(pixels.mean(axis=2, keepdims=True) < 128, 255, 0).astype(np.uint8)
        return Image.fromarray(np.concatenate([pixels, dark], axis=2))
