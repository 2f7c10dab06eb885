"""The input of a job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class ActionMeshInput:
    """Frames and their times."""

    frames: list[Any]
    timesteps: Any

    @property
    def n_frames(self) -> int:
        return len(self.frames)

    def get(self, indices: Any) -> ActionMeshInput:
        return ActionMeshInput([self.frames[i] for i in indices], self.timesteps[indices])
