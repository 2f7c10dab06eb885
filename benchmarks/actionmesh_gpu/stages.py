"""Upstream's arithmetic against ours, stage by stage: seconds, peaks of memory, differences.

A part of the measurement, called by __main__.py. Stock is our driver with every speed-up off, which
does what upstream does, bit for bit (tests/upstream/). The most important rows come first: those
that no longer fit in the time are left out.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace

from benchmarks.actionmesh_gpu.gpu import free, smaller_card, synchronize
from benchmarks.actionmesh_gpu.octree import logits_differences
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import (
    RandomActionMesh,
    SmallRandomActionMesh,
    environment,
)
from benchmarks.actionmesh_gpu.run import STAGES, Run, Stopwatch, run_job
from pipeline import Mode
from settings import Settings
from upstream.speedups import Speedups

NONE, ALL = Speedups.none(), Speedups()
ON_THE_CPU = {"crop_first", "batched_background"}
"""Speed-ups of work that a GPU does not do: each alone is measured with --small only."""

SMALL_CARD_GB = 12.0
LOAD_S, SHORT_S = 25.0, 15.0
STOCK_S: dict[Mode, float] = {"fast": 45.0, "default": 85.0}
OURS_S: dict[Mode, float] = {"fast": 32.0, "default": 55.0}
LOW_RAM_S = LOAD_S + 60.0
COMPILED_S = LOAD_S + 90.0


@dataclass
class _Jobs:
    """Runs jobs on one loaded pipeline and prints their rows.

    `stock`: the runs that others are compared with, by name. `filled_gb` of the device are not the
    pipeline's.
    """

    part: Part
    pipeline: RandomActionMesh
    stock: dict[str, Run] = field(default_factory=dict)
    filled_gb: float = 0.0

    def job(
        self, mode: Mode, use: Speedups, what: str, *, short: bool = False, seed: int = 44
    ) -> Run:
        """One job and its row; stock runs are kept. A short one has few steps in both stages."""
        preset = self.part.size.presets[mode]
        if short:
            preset = replace(preset, stage_0_steps=3, stage_1_steps=2)
        name = f"{mode}, 3 + 2 steps" if short else mode
        self.pipeline.use = use
        found = run_job(self.pipeline, mode, preset, seed, self.filled_gb)
        self.part.row(f"{name}: {what}", *found.cells(self.stock.get(name)))
        if what == "stock":
            self.stock[name] = found
        return found


def measure(part: Part) -> None:
    """Print the table."""
    part.begin(
        "Stages", "16 frames", *(f"{stage} s (GB)" for stage in STAGES), "total s", "of stock",
        "peak GB (reserved)", "latents, relative", "vertices, most",
    )  # fmt: skip
    if not part.fits("all of it", LOAD_S + 3 * SHORT_S):
        return
    with _loaded(part, "loaded") as pipeline:
        jobs = _Jobs(part, pipeline)
        _modes(jobs)
        _each_speedup(jobs)
    if part.fits("fast_low_ram", LOW_RAM_S):
        _low_ram(part, jobs.stock)
    if part.fits("compiled", COMPILED_S):
        _compiled(part, jobs.stock)


def _modes(jobs: _Jobs) -> None:
    """Fast and default: stock, and with every speed-up; a short job of each first, to warm up."""
    part = jobs.part
    jobs.job("fast", NONE, "stock", short=True)
    jobs.job("fast", ALL, "all", short=True)
    for mode, estimate_s in STOCK_S.items():
        stock = None
        if part.fits(f"{mode}: stock", estimate_s):
            stock = jobs.job(mode, NONE, "stock")
        if not part.fits(f"{mode}: all", OURS_S[mode]):
            continue
        found = jobs.job(mode, ALL, "all")
        part.figures[f"{mode}_s"] = found.total_s
        if stock is not None:
            part.figures[f"{mode}_of_stock"] = found.total_s / stock.total_s
        if mode == "default" and part.size.on_gpu:
            part.figures["default_gb"] = found.peak_gb


def _each_speedup(jobs: _Jobs) -> None:
    """Short jobs: stock again (does it repeat itself?), each speed-up alone, another seed."""
    part = jobs.part
    wanted = {"stock again": NONE} | {
        option.name: replace(NONE, **{option.name: True})
        for option in fields(Speedups)
        if not (part.size.on_gpu and option.name in ON_THE_CPU)
    }
    for what, use in wanted.items():
        if part.fits(f"fast, 3 + 2 steps: {what}", SHORT_S, LOW_RAM_S):
            jobs.job("fast", use, what, short=True)
    if part.fits("fast, 3 + 2 steps: another seed", SHORT_S, LOW_RAM_S):
        jobs.job("fast", NONE, "another seed", short=True, seed=45)
    blank = [""] * (len(STAGES) + 3)
    for what, difference in logits_differences(jobs.pipeline):
        part.row(what, *blank, f"{difference:.1e}", "")


def _low_ram(part: Part, stock: dict[str, Run]) -> None:
    """As on a card of 12 GB: the rest of this one is filled before the models are loaded.

    Compared with `fast`, which has the same steps.
    """
    fast = {"fast_low_ram": stock["fast"]} if "fast" in stock else {}
    with (
        smaller_card(part.size.device, SMALL_CARD_GB) as filled_gb,
        _loaded(part, f"loaded, {SMALL_CARD_GB:g} GB free") as pipeline,
    ):
        found = _Jobs(part, pipeline, fast, filled_gb).job("fast_low_ram", ALL, "all")
        if part.size.on_gpu:
            part.figures["low_ram_gb"] = found.peak_gb


def _compiled(part: Part, stock: dict[str, Run]) -> None:
    """ACTIONMESH_COMPILE=1: blocks may be compiled in the first job; the second one counts."""
    with _loaded(part, "loaded, compiled", ACTIONMESH_COMPILE="1") as pipeline:
        jobs = _Jobs(part, pipeline, stock)
        jobs.job("fast", pipeline.use, "all, compiled, first", short=True)
        jobs.job("fast", pipeline.use, "all, compiled")


@contextlib.contextmanager
def _loaded(part: Part, what: str, **settings: str) -> Iterator[RandomActionMesh]:
    """A pipeline that has loaded the random weights, and a row with the time that this took."""
    kind = RandomActionMesh if part.size.on_gpu else SmallRandomActionMesh
    given = Settings.from_environment({**os.environ, **environment(part.home), **settings})
    began = time.perf_counter()
    pipeline = kind(given)
    with contextlib.redirect_stdout(sys.stderr):  # huggingface_hub prints
        pipeline.load(Stopwatch(part.size.device))
    synchronize(part.size.device)
    part.row(what, *[""] * len(STAGES), f"{time.perf_counter() - began:.1f}")
    try:
        yield pipeline
    finally:
        pipeline.engine = None
        free(part.size.device)
