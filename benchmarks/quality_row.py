"""A row of quality.py's table: what was measured, which bars it has to meet, what it cost."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measured value, None if it cannot be judged, and the bar that it has to meet, if any."""

    name: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def has_bar(self) -> bool:
        return self.at_most is not None or self.at_least is not None

    @property
    def bar(self) -> str:
        """In words, without the name."""
        return f"<= {self.at_most:g}" if self.at_most is not None else f">= {self.at_least:g}"

    @property
    def is_met(self) -> bool:
        """True where there is no bar."""
        if self.value is None:
            return not self.has_bar
        is_low = self.at_most is None or self.value <= self.at_most
        return is_low and (self.at_least is None or self.value >= self.at_least)


@dataclass
class Row:
    """A case's figures, CPU seconds by step, and the peak memory of the largest process.

    What only measures is in neither.
    """

    figures: list[Figure] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    rss_mb: float = 0.0

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the step's CPU seconds, those of ended child processes too, and its peak memory."""
        began = _cpu_s()
        try:
            yield
        finally:
            self.cpu_s[step] = _cpu_s() - began
            self.rss_mb = peak_rss_mb()


def peak_rss_mb() -> float:
    """Of this process, or of an ended child if that was larger."""
    status = Path("/proc/self/status").read_text()
    own = int(status.partition("VmHWM:")[2].split()[0])
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
