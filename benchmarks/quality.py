"""Measures all quality that truth can tell: `python -m benchmarks.quality [word ...]`.

Prints a Markdown table of the clips in TEST_MEDIA: the subject's masks, the CPU pipeline's
outlines, and the view, score and colours of meshes that are known. Words choose rows by part of
their names. What a row measures is in quality_case.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.machine_speed import slowness
from benchmarks.quality_case import LONG, NOISE, WRONG, case_names
from benchmarks.quality_row import Figure, Row
from tests.silhouette.measure import media_folder

HEADER = """\
| what | of | measured | bar | met | CPU s | RSS MB |
|---|---|---|---|---|---|---|"""

EXPLAINED = """\
Angle: degrees between the found camera and the true one. Outline, worst: overlap (IoU) with the
video's masks. Motion: 1 follows the video, 0 does not. Colours: the texture's error, of 255, and
its share of the error of one flat colour. Texture: shares of the surface. "Noise": the true meshes,
moved as a generator might. Each row is a process of its own on one core: CPU seconds by step,
without measuring, and the peak memory of the largest process up to there."""


def main(words: list[str]) -> int:
    """Print the table and its summary; 1 if a row could not be measured."""
    print(HEADER)
    rows: dict[str, Row | None] = {}
    for part, names in case_names(media_folder()).items():
        for name in names:
            if all(word in f"{part} {name}" for word in words):
                row = rows[f"{part} {name}"] = _measured_alone(part, name)
                print(_line(part, name, row), flush=True)
    print(f"\n{EXPLAINED}\n")
    for line in _summary({name: row for name, row in rows.items() if row}):
        print(f"- {line}")
    return 0 if all(rows.values()) else 1


def _measured_alone(part: str, name: str) -> Row | None:
    """One row, measured in its own process on one core; None if that failed."""
    one_core = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.quality_case", part, name],
        cwd=Path(__file__).resolve().parents[1],
        env={**os.environ, **one_core},
        stdout=subprocess.PIPE,
    )
    if done.returncode:
        return None
    found = json.loads(done.stdout)
    return Row(**{**found, "figures": [Figure(**figure) for figure in found["figures"]]})


def _line(part: str, name: str, row: Row | None) -> str:
    if row is None:
        return f"| {part} | {name} | could not be measured | | NO | | |"
    measured = ", ".join(f"{figure.name} {_number(figure.value)}" for figure in row.figures)
    barred = [figure for figure in row.figures if figure.has_bar]
    bars = ", ".join(f"{figure.name} {figure.bar}" for figure in barred)
    met = "" if not barred else "yes" if all(figure.is_met for figure in barred) else "NO"
    cpu = " ".join(f"{step} {seconds:.1f}" for step, seconds in row.cpu_s.items())
    return f"| {part} | {name} | {measured} | {bars} | {met} | {cpu} | {row.rss_mb:.0f} |"


def _number(value: float | None) -> str:
    if value is None:
        return "not judged"
    return f"{value:.2f}" if abs(value) < 1 else f"{value:.1f}"


def _summary(rows: dict[str, Row]) -> Iterator[str]:
    barred = [figure for row in rows.values() for figure in row.figures if figure.has_bar]
    yield f"{sum(figure.is_met for figure in barred)} of {len(barred)} bars are met."
    for part, box in (("subject", False), ("subject", True), ("silhouette", False)):
        named = [
            row.figures[0].value
            for name, row in rows.items()
            if name.startswith(part) and name.endswith("with a box") == box
        ]
        means = np.array(named, float)
        if means.size:
            what = f"{part}, with a box" if box else part
            yield f"{what}: mean IoU {means.mean():.3f}, worst clip {means.min():.3f}."
    for cost in _costs(rows):
        met = f" ({cost.bar}: {'yes' if cost.is_met else 'NO'})" if cost.has_bar else ""
        yield f"{cost.name}: at most {cost.value:.1f}{met}."
    yield f"The machine's slowness at the end (machine_speed.py): {slowness():.1f}."


def _costs(rows: dict[str, Row]) -> list[Figure]:
    """The largest CPU times and memory of all truth clips with their bars."""
    found = {name: row for name, row in rows.items() if name.startswith("appearance")}
    long = [sum(row.cpu_s.values()) for name, row in found.items() if name.endswith(LONG)]
    fits, bakes, other_fits = [], [], []
    for name, row in found.items():
        if name.endswith(tuple(NOISE)):
            fits.append(row.cpu_s["fit"])
            bakes += [row.cpu_s["bake"]] if "bake" in row.cpu_s else []
        elif name.endswith(WRONG):
            other_fits.append(row.cpu_s["fit"])
    memory = [row.rss_mb for row in found.values()]
    costs = (
        ("fit, 16 timesteps, CPU s", fits, 3.0),
        ("fit of meshes that move otherwise or show another subject, CPU s", other_fits, None),
        ("bake, 16 timesteps, CPU s", bakes, 12.0),
        ("all of 31 timesteps, CPU s", long, 20.0),
        ("memory, MB", memory, 700.0),
    )
    return [Figure(name, max(values), at_most=limit) for name, values, limit in costs if values]


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
