"""What one run over a corpus found. The inputs that caused a finding are kept in fuzz_findings/."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path("fuzz_findings")
TELL_EVERY = 500


def to_terminal(line: str) -> None:
    print(line, flush=True, file=sys.stdout)


@dataclass
class Findings:
    """Counts of one run, filled while it goes on. `tell` is called with a line now and then."""

    corpus: str
    seed: int
    tell: Callable[[str], None] = to_terminal
    tried: int = 0
    found: int = 0
    slowest_s: float = 0.0
    #: how many inputs ended in which way
    endings: Counter[str] = field(default_factory=Counter)

    def ended(self, how: str, took_s: float) -> None:
        """Count one input; an input that causes a finding is counted, too."""
        self.tried += 1
        self.endings[how] += 1
        self.slowest_s = max(self.slowest_s, took_s)
        if self.tried % TELL_EVERY == 0:
            self.tell(f"{self.corpus}: {self.tried} inputs, {self.found} findings, "
                      f"slowest {self.slowest_s:.1f} s")  # fmt: skip

    def keep(self, content: bytes, wrong: str) -> None:
        """Write the input to fuzz_findings/ and say what is wrong with how it ended."""
        self.found += 1
        FOLDER.mkdir(exist_ok=True)
        name = f"{self.corpus}-{self.seed}-{self.tried}"
        (FOLDER / name).write_bytes(content)
        self.tell(f"{name}: {wrong}")

    def summary(self) -> str:
        endings = ", ".join(f"{number} {how}" for how, number in self.endings.most_common())
        return (f"{self.corpus}: {self.tried} inputs, seed {self.seed}: {self.found} findings; "
                f"slowest {self.slowest_s:.1f} s; {endings}")  # fmt: skip
