"""Pictures before stage 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


def is_valid_alpha(alpha: Any, min_ratio: float = 0.01, threshold: int = 127) -> bool:
    seen = float(np.mean(alpha > threshold))
    return min_ratio <= seen <= 1 - min_ratio


@dataclass(eq=False)
class ImagePreprocessor:
    independent_cropping: bool = False
    padding_ratio: float = 0.1

    def process_images(self, frames: list[Any]) -> list[Any]:
        return [frame.convert("RGB") for frame in frames]
