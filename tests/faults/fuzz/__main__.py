"""`python -m tests.faults.fuzz --files 10000 --corpus all`: what `make fuzz` runs.

Exit code 0 without findings. A run with the same seed makes the same inputs.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

from tests.faults.fuzz import glbs, heads, videos, zips
from tests.faults.fuzz.findings import Findings, to_terminal

CORPORA: dict[str, Callable[[int, int, Callable[[str], None]], Findings]] = {
    "videos": videos.run,
    "zips": zips.run,
    "glbs": glbs.run,
    "heads": heads.run,
}
"""Each takes the number of inputs, the seed, and what to call with a line of text."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tests.faults.fuzz")
    parser.add_argument("--files", type=int, default=10_000, help="inputs of each corpus")
    parser.add_argument("--corpus", choices=("all", *CORPORA), default="all")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    asked = parser.parse_args(arguments)
    found = 0
    for name, run in CORPORA.items():
        if asked.corpus in ("all", name):
            began = time.monotonic()
            findings = run(asked.files, asked.seed, to_terminal)
            to_terminal(f"{findings.summary()}; {time.monotonic() - began:.0f} s in all")
            found += findings.found
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
