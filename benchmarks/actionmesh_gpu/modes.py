"""Each mode, stock and with every speed-up: seconds by stage, peaks of memory, differences.

A part of the measurement, called by __main__.py. The most important rows come first: those that no
longer fit in the time are left out.
"""

from __future__ import annotations

from benchmarks.actionmesh_gpu.gpu import smaller_card
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.run import Run
from benchmarks.actionmesh_gpu.stages import ALL, LOAD_S, NONE, SHORT_S, Jobs, begin_table, loaded
from pipeline import Mode

SMALL_CARD_GB = 12.0
STOCK_S: dict[Mode, float] = {"fast": 36.0, "default": 58.0}
OURS_S: dict[Mode, float] = {"fast": 30.0, "default": 50.0}
LOW_RAM_S = LOAD_S + 45.0
COMPILED_S = LOAD_S + 60.0


def measure(part: Part) -> None:
    """Print the table."""
    begin_table(part, "Modes")
    if not part.fits("all of it", LOAD_S + 2 * SHORT_S + OURS_S["fast"]):
        return
    with loaded(part, "loaded") as pipeline:
        jobs = Jobs(part, pipeline)
        jobs.job("fast", NONE, "stock", short=True)  # these two warm up
        jobs.job("fast", ALL, "all", short=True)
        for mode in OURS_S:
            _mode(jobs, mode)
    if part.fits("fast_low_ram: all", LOW_RAM_S):
        _low_ram(part, jobs.stock)
    if part.fits("fast: all, compiled", COMPILED_S):
        _compiled(part, jobs.stock)


def _mode(jobs: Jobs, mode: Mode) -> None:
    part, stock = jobs.part, None
    if part.fits(f"{mode}: stock", STOCK_S[mode]):
        stock = jobs.job(mode, NONE, "stock")
    if not part.fits(f"{mode}: all", OURS_S[mode]):
        return
    found = jobs.job(mode, ALL, "all")
    part.figures[f"{mode}_s"] = found.total_s
    if stock is not None:
        part.figures[f"{mode}_of_stock"] = found.total_s / stock.total_s
    if part.size.on_gpu:
        part.figures[f"{mode}_gb"] = found.peak_gb


def _low_ram(part: Part, stock: dict[str, Run]) -> None:
    """As on a card of 12 GB: the rest of this one is filled before the models are loaded.

    Compared with `fast`, which has the same steps.
    """
    fast = {"fast_low_ram": stock["fast"]} if "fast" in stock else {}
    with (
        smaller_card(part.size.device, SMALL_CARD_GB) as filled_gb,
        loaded(part, f"loaded, {SMALL_CARD_GB:g} GB free") as pipeline,
    ):
        found = Jobs(part, pipeline, fast, filled_gb).job("fast_low_ram", ALL, "all")
        if part.size.on_gpu:
            part.figures["fast_low_ram_gb"] = found.peak_gb


def _compiled(part: Part, stock: dict[str, Run]) -> None:
    """ACTIONMESH_COMPILE=1: blocks may be compiled in the first job; the second one counts."""
    with loaded(part, "loaded, compiled", ACTIONMESH_COMPILE="1") as pipeline:
        jobs = Jobs(part, pipeline, stock)
        jobs.job("fast", pipeline.use, "all, compiled, first", short=True)
        jobs.job("fast", pipeline.use, "all, compiled")
