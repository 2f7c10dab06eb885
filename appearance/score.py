"""Says how well meshes fit the video that they were made of: outlines and motion."""

from __future__ import annotations

from dataclasses import dataclass

from appearance import OnProgress
from meshes.sequence import MeshSequence
from meshes.view import View
from video.clip import Clip


@dataclass(frozen=True)
class Score:
    """Outline overlaps (IoU, 0 to 1) of all timesteps, and how well the motion follows the video.

    `motion` is 1 for the video's own motion, 0 for none or another; None where the video moves too
    little to judge, less than `video_motion` says: 1 - mean IoU between its own outlines.
    """

    outlines: tuple[float, ...]
    motion: float | None
    video_motion: float

    @property
    def outline_mean(self) -> float:
        return sum(self.outlines) / len(self.outlines)

    @property
    def outline_worst(self) -> float:
        return min(self.outlines)

    @property
    def worst_frame(self) -> int:
        return self.outlines.index(self.outline_worst)


def score_view(meshes: MeshSequence, clip: Clip, view: View, report: OnProgress) -> Score:
    """The score of the meshes, seen through `view`, against a clip with alpha."""
    raise NotImplementedError
