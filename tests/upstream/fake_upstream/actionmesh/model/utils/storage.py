"""What the stages fill."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class TimestepIndexedStorage:
    items: list[Any] = field(default_factory=list)
    timesteps: list[float] = field(default_factory=list)
    verbose: bool = False
    tag: str = ""


@dataclass
class LatentBank(TimestepIndexedStorage):
    empty_dims: tuple[int, int] = (4, 2)

    def update(self, timesteps: Any, latents: Any, replace: bool = False) -> None:
        self.timesteps += list(timesteps)
        self.items += [latents] * len(timesteps)


@dataclass
class MeshBank(TimestepIndexedStorage):
    def update(self, timesteps: Any, meshes: list[Any], replace: bool = False) -> None:
        self.timesteps += list(timesteps)
        self.items += meshes

    def get_ordered(self, device: str) -> tuple[list[Any], Any]:
        return self.items, self.timesteps
