"""Measures the CPU pipeline on the test clips: `python -m benchmarks.silhouette [word ...]`.

Prints a Markdown table; words choose clips or modes by part of their names. What is measured and
where the clips lie is in tests/silhouette/measure.py.
"""

from __future__ import annotations

import sys

from benchmarks.machine_speed import slowness
from presets import MODES
from tests.silhouette.measure import Report, media_folder, report_alone, sample_names

HEADER = """\
| clip | mode | IoU mean | IoU worst | photo | turned % | degenerate | watertight | volume \
| jitter | vertices | texture kB | CPU s | slowness | RSS MB | CPU by stage |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def row(name: str, mode: str, report: Report, slow: float) -> str:
    """One line of the table; `slow` is the machine's slowness (machine_speed.py) at that time."""
    f = report.measured
    stages = " ".join(f"{stage} {seconds:.1f}" for stage, seconds in report.stages.items())
    return (
        f"| {name} | {mode} | {f.iou_mean:.3f} | {f.iou_worst:.3f} | {f.photo:.1f} "
        f"| {100 * f.turned:.2f} | {f.degenerate} | {'yes' if f.watertight else 'NO'} "
        f"| {f.volume:.3f} | {f.jitter:.2f} | {f.vertices} | {f.texture_kb:.0f} "
        f"| {report.cpu_s:.1f} | {slow:.1f} | {report.rss_mb:.0f} | {stages} |"
    )


def main(words: list[str]) -> None:
    """Print the table, one process per row."""
    print(HEADER)
    for name in sample_names(media_folder()):
        for mode in MODES:
            if all(word in f"{name} {mode}".split() for word in words):
                before = slowness()
                report = report_alone(name, mode)
                print(row(name, mode, report, (before + slowness()) / 2), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
