"""One part of the measurement: its Markdown table, what is left of its time, and its figures.

Used by every part; __main__.py makes one Part each and prints the limits at the end.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.actionmesh_gpu.random_models import Size


@dataclass(frozen=True)
class Part:
    """`ends_at` is on the monotonic clock, in seconds. `home` becomes HF_HOME.

    `figures` is shared by all parts: what limits.py compares, by name.
    """

    size: Size
    home: Path
    ends_at: float
    figures: dict[str, float]

    def begin(self, title: str, *columns: str) -> None:
        """Print the head of the table. Every line is flushed: a run may be cut off."""
        print(f"\n### {title}\n", flush=True)
        self.row(*columns)
        self.row(*["---"] * len(columns))

    def row(self, *cells: str) -> None:
        print(f"| {' | '.join(cells)} |", flush=True)

    @property
    def left_s(self) -> float:
        return self.ends_at - time.monotonic()

    def fits(self, what: str, estimate_s: float) -> bool:
        """Whether there is time for it; if not, a row says so. Estimates are for an H100."""
        needed_s = estimate_s * self.size.estimate_factor
        if self.left_s >= needed_s:
            return True
        self.row(what, f"skipped: needs about {needed_s:.0f} s, {max(0, self.left_s):.0f} s left")
        return False
