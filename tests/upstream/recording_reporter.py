"""A reporter that records its calls, and can cancel at a chosen stage. No tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from errors import Cancelled
from meshes.sequence import MeshSequence
from video.clip import Clip


@dataclass
class RecordingReporter:
    """pipeline.Reporter; `cancel_in` is the stage whose second report raises Cancelled."""

    cancel_in: str = ""
    steps: list[tuple[str, int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    subjects: list[Clip] = field(default_factory=list)
    anchors: list[MeshSequence] = field(default_factory=list)
    tries: list[tuple[MeshSequence, int, float]] = field(default_factory=list)
    seed: int | None = None
    anchor_after: int = -1

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """Record the call; raise Cancelled in the chosen stage."""
        self.steps.append((stage, step, steps))
        if stage == self.cancel_in and sum(1 for seen in self.steps if seen[0] == stage) >= 2:
            raise Cancelled

    def warning(self, code: str, message: str, **facts: Any) -> None:
        """Record code and message."""
        assert message
        self.messages.append(message)
        self.warnings.append(code)

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        """Record the clip with alpha."""
        self.subjects.append(clip)

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        """Record one of several shapes."""
        self.tries.append((mesh, seed, outline))

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        """Record the mesh, its seed and when it came."""
        self.anchors.append(mesh)
        self.seed = seed
        self.anchor_after = len(self.steps)
