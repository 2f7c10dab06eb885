"""What the parts modes and speedups share: a loaded pipeline, its jobs, and one row for each.

Stock is our driver with every speed-up off, which does what upstream does, bit for bit
(tests/upstream/). Its weights are loaded as ours are.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from benchmarks.actionmesh_gpu.gpu import free, synchronize
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
LOAD_S, SHORT_S = 12.0, 15.0
"""Estimates: loading the weights, and a short job."""


@dataclass
class Jobs:
    """Runs jobs on one loaded pipeline and prints their rows.

    `stock`: the runs that others are compared with, by the name of the job. `filled_gb` of the
    device are not the pipeline's.
    """

    part: Part
    pipeline: RandomActionMesh
    stock: dict[str, Run] = field(default_factory=dict)
    filled_gb: float = 0.0

    def job(
        self,
        mode: Mode,
        use: Speedups,
        what: str,
        *,
        short: bool = False,
        seed: int = 44,
        tries: int = 1,
    ) -> Run:
        """One job and its row; stock runs are kept. A short one has few steps in both stages."""
        preset = self.part.size.presets[mode]
        if short:
            preset = replace(preset, stage_0_steps=3, stage_1_steps=2)
        name = f"{mode}, 3 + 2 steps" if short else mode
        self.pipeline.use = use
        found = run_job(self.pipeline, mode, preset, seed, self.filled_gb, tries)
        self.part.row(f"{name}: {what}", *found.cells(self.stock.get(name)))
        if what == "stock":
            self.stock[name] = found
        return found


def begin_table(part: Part, title: str) -> None:
    """The head of a table whose rows are those of `Jobs.job`."""
    part.begin(
        title, "16 frames", *(f"{stage} s (GB)" for stage in STAGES), "total s", "of stock",
        "peak GB (reserved)", "latents, relative", "vertices, most",
    )  # fmt: skip


@contextlib.contextmanager
def loaded(part: Part, what: str, **settings: str) -> Iterator[RandomActionMesh]:
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
