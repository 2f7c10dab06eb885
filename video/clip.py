"""Clip: the frames that a pipeline works on, and facts about their source. Decodes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceFacts:
    """Facts about the uploaded video, and which of its frames were taken.

    `fps` is None where frames have no times (a zip of images); `used` are 0-based source indices.
    """

    width: int
    height: int
    frames: int
    fps: float | None
    used: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "fps": self.fps,
            "used": list(self.used),
        }


@dataclass(frozen=True)
class Clip:
    """Sampled frames, uint8 `(T, H, W, 3)` RGB or `(T, H, W, 4)` RGBA (straight alpha), one size.

    `fps` is the rate of the sampled frames: frame k belongs to time k / fps. Raises
    ValueError for any other array.
    """

    frames: NDArray[np.uint8]
    fps: float
    source: SourceFacts

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (3, 4):
            raise ValueError(
                f"frames must be uint8 (T, H, W, 3|4), not {self.frames.dtype} {shape}"
            )
        if shape[0] < 1 or not 0 < self.fps <= 1000:
            raise ValueError(
                f"a clip needs frames and a rate, not {shape[0]} frames at {self.fps} fps"
            )

    def __len__(self) -> int:
        return int(self.frames.shape[0])
