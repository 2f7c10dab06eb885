"""A reporter that remembers what it was told, and can cancel at a chosen step. No tests."""

from __future__ import annotations

from dataclasses import dataclass, field

from errors import Cancelled
from meshes.sequence import MeshSequence


@dataclass
class RecordingReporter:
    """pipeline.Reporter; `cancel_in` is the stage whose second report raises Cancelled."""

    cancel_in: str = ""
    told: list[tuple[str, int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    anchors: list[MeshSequence] = field(default_factory=list)
    anchor_after: int = -1

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """Remember; raise Cancelled where asked."""
        self.told.append((stage, step, steps))
        if stage == self.cancel_in and sum(1 for seen in self.told if seen[0] == stage) >= 2:
            raise Cancelled

    def warning(self, code: str, message: str) -> None:
        """Remember the code."""
        assert message
        self.warnings.append(code)

    def anchor(self, mesh: MeshSequence) -> None:
        """Remember the mesh and when it came."""
        self.anchors.append(mesh)
        self.anchor_after = len(self.told)
