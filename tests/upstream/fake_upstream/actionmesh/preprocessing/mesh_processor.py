"""The mesh after stage 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(eq=False)
class MeshPostprocessor:
    bounds: tuple[float, ...] = (-1.005, -1.005, -1.005, 1.005, 1.005, 1.005)
    face_decimation: int = -1
    floaters_threshold: float = 0.0
    verbose: bool = True

    def process_mesh(self, mesh: Any, seed: int | None = None) -> Any:
        return mesh
