"""The GPU's benchmark runs whole on a CPU with tiny models, and keeps to its time."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from benchmarks.actionmesh_gpu.limits import LIMITS, rows
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import FULL
from upstream.speedups import Speedups

ROOT = Path(__file__).resolve().parents[2]
ROUNDING = 1e-5
HALF_ROUNDING = 1e-2
"""Of float16, in which TripoSG's decoder runs, over its whole depth."""

Table = dict[str, list[str]]


def run(*arguments: str) -> dict[str, Table]:
    """The tables that it printed: title -> first cell of a row -> the other cells."""
    command = [sys.executable, "-m", "benchmarks.actionmesh_gpu", "--small", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(tables(done.stdout))


def tables(text: str) -> Iterator[tuple[str, Table]]:
    for section in text.split("\n### ")[1:]:
        cells = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        yield section.splitlines()[0], {row[0]: row[1:] for row in cells[2:]}


@pytest.fixture(scope="module")
def measured(opened: Path) -> dict[str, Table]:
    """Everything, once."""
    return run("--budget", "1500")


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_every_part_is_measured_and_nothing_is_skipped(measured: dict[str, Table]) -> None:
    assert list(measured) == [
        "The card",
        "From the grid to the surface",
        "The worker over HTTP",
        "Modes",
        "Speed-ups",
        "Limits",
    ]
    for title, table in measured.items():
        assert table and "failed" not in table, title
        assert not any("skipped" in cell for cells in table.values() for cell in cells), title
    assert measured["The card"]["attention, stage I, self: flash"][2] == "0.0e+00"
    assert all(cells[-1] != "NO" for cells in measured["From the grid to the surface"].values())
    for name in ("default_s", "default_of_stock", "fast_s", "fast_of_stock", "gpu_idle_s"):
        assert float(measured["Limits"][LIMITS[name][0]][0]) > 0


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_the_worker_runs_two_jobs_and_cancels_in_three_stages(measured: dict[str, Table]) -> None:
    table = measured["The worker over HTTP"]
    for what in ("first job, fast", "second job, fast", "fast_low_ram after fast"):
        assert re.search(r"motion \d.*decoding \d", table[what][2]), table[what]
    for stage in ("shape", "motion", "decoding"):
        assert f"cancelled in {stage}" in table
    assert table["cancelled in shape"][2] == "cancelled"


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_speedups_differ_from_stock_by_rounding_and_another_seed_by_more(
    measured: dict[str, Table],
) -> None:
    table = {**measured["Modes"], **measured["Speed-ups"]}
    compared = {what: cells for what, cells in table.items() if len(cells) == 9 and cells[-1]}
    difference = {what: tuple(map(float, cells[-2:])) for what, cells in compared.items()}
    assert difference["fast, 3 + 2 steps: stock again"] == (0.0, 0.0)
    exact = [option.name for option in fields(Speedups) if option.default]
    alone = [f"fast, 3 + 2 steps: {name}" for name in exact]
    for what in (*alone, "fast: all", "default: all", "fast_low_ram: all", "fast: all, compiled"):
        assert max(difference[what]) < ROUNDING, what
    assert min(difference["fast, 3 + 2 steps: another seed"]) > 100 * ROUNDING
    for what in ("octree values: shared keys", "octree values: stock, two chunks at once"):
        assert float(table[what][-2]) < HALF_ROUNDING


@pytest.mark.slow
def test_a_part_is_ended_when_the_time_is_over(opened: Path) -> None:
    printed = run("--budget", "0.1")
    assert list(printed) == ["Limits"]


def test_what_does_not_fit_in_the_time_is_skipped_with_a_row(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    part = Part(FULL, tmp_path, time.monotonic() + 100, {})
    assert part.fits("a job", 80)
    assert capsys.readouterr().out == ""
    assert not part.fits("a job", 120)
    assert re.match(
        r"\| a job \| skipped: needs about 120 s, \d+ s left \|", capsys.readouterr().out
    )


def test_a_limit_is_met_up_to_its_value() -> None:
    figures = {"default_s": 45.0, "fast_s": 24.01}
    result = {what: result for what, *_, result in rows(figures, judged=True)}
    assert result[LIMITS["default_s"][0]] == "pass"
    assert result[LIMITS["fast_s"][0]] == "MISS"
    assert result[LIMITS["gpu_idle_s"][0]] == "not measured"
    unjudged = {result for *_, result in rows(figures, judged=False)}
    assert unjudged == {"not judged", "not measured"}
