"""Clip: the frames that a pipeline works on, and facts about their source. Decodes nothing.

Loads no numpy: the API process gets the facts as well, from video/probe.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SourceFacts:
    """Facts about the video, and which of its frames a job takes.

    `width` and `height` are those of upright frames as decoded; `fps` is None where frames have no
    times (a zip of images); `used` are 0-based source indices.
    """

    width: int
    height: int
    frames: int
    fps: float | None
    used: tuple[int, ...]


@dataclass(frozen=True)
class Clip:
    """Sampled frames, uint8 `(T, H, W, 3)` RGB or `(T, H, W, 4)` RGBA (straight alpha), one size.

    `fps` is the rate of the sampled frames: frame k belongs to time k / fps. `seconds` is when each
    is shown in the source; None where frames have no times. Raises ValueError for any other array.
    """

    frames: NDArray[np.uint8]
    fps: float
    source: SourceFacts
    seconds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if self.frames.dtype != "uint8" or len(shape) != 4 or shape[3] not in (3, 4):
            raise ValueError(
                f"frames must be uint8 (T, H, W, 3|4), not {self.frames.dtype} {shape}"
            )
        if shape[0] < 1 or not 0 < self.fps <= 1000:
            raise ValueError(
                f"a clip needs frames and a rate, not {shape[0]} frames at {self.fps} fps"
            )

    def __len__(self) -> int:
        return int(self.frames.shape[0])

    @property
    def has_alpha(self) -> bool:
        return bool(self.frames.shape[3] == 4)

    def without_alpha(self) -> Clip:
        """The same colours, in the same memory."""
        return replace(self, frames=self.frames[..., :3])

    def with_alpha(self, alpha: NDArray[np.uint8]) -> Clip:
        """The same clip with another alpha, uint8 `(T, H, W)`: 255 is the subject."""
        import numpy

        return replace(self, frames=numpy.concatenate([self.frames[..., :3], alpha[..., None]], 3))
