"""Runs the named attacks, or all, and prints a table: `python -m benchmarks.attacks [name ...]`.

Exit code 1 if the API process grew by more than 60 MB, an answer was wrong, something was left, or
/health waited more than 100 ms while the server was busy. With TEST_MEDIA more attacks run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.faults.attacks import ATTACKS
from tests.faults.attacks.attack import Attack, Target
from tests.faults.attacks.measure import Measured, measure, warm_up
from tests.faults.processes import adopt_orphans, rss_mb
from tests.faults.server import Server

COLUMNS = ("attack", "answers", "grew (MB)", "kept (MB)", "/health (ms)", "of it busy (ms)", "left",
           "took (s)")  # fmt: skip


def main(names: list[str]) -> int:
    """0 if every attack met every limit."""
    media = Path(os.environ["TEST_MEDIA"]) if os.environ.get("TEST_MEDIA") else None
    chosen = [ATTACKS[name] for name in names] if names else list(ATTACKS.values())
    chosen = [attack for attack in chosen if media or not attack.needs_media]
    failed = 0
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    with adopt_orphans():
        for pipeline in ("silhouette", "actionmesh"):
            attacks = [attack for attack in chosen if attack.pipeline == pipeline]
            if attacks:
                failed += _run(pipeline, attacks, media)
    return 1 if failed else 0


def _run(pipeline: str, attacks: list[Attack], media: Path | None) -> int:
    """On one server after another: a new one if one has ended. How many attacks failed."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="attacks-") as folder:
        with Server(Path(folder), pipeline) as server:
            target = Target(server, Path(folder), media)
            for attack in attacks:
                if not server.is_running:
                    server.start()
                    warm_up(target)
                measured = measure(attack, target)
                print(_row(attack.name, measured), flush=True)
                failed += bool(measured.faults) or measured.is_slow
            print(f"\nThe server of {pipeline} ends with {rss_mb(server.pid):.0f} MB.\n")
    return failed


def _row(name: str, found: Measured) -> str:
    answers = "; ".join(found.wrong) or "right"
    left = ", ".join(found.left) or "nothing"
    held = f"**{found.held_ms:.0f}**" if found.is_slow else f"{found.held_ms:.0f}"
    grew = f"{found.growth_mb:.0f}"
    if any("grew" in fault for fault in found.faults):
        grew = f"**{grew}**"
    return (f"| {name.replace('_', ' ')} | {answers} | {grew} | {found.kept_mb:.0f} | "
            f"{found.health_ms:.0f} | {held} | {left} | {found.took_s:.0f} |")  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
