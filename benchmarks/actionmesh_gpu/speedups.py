"""Each speed-up alone: its seconds by stage and its difference to stock, in short jobs.

A part of the measurement, called by __main__.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import RandomActionMesh, without_figure
from benchmarks.actionmesh_gpu.run import STAGES
from benchmarks.actionmesh_gpu.stages import ALL, LOAD_S, NONE, SHORT_S, Jobs, begin_table, loaded
from upstream.speedups import Speedups, shared_octree_kv

ON_THE_CPU = {"crop_first", "batched_background"}
"""Speed-ups of work that a GPU does not do: with --small only."""


def measure(part: Part) -> None:
    """Print the table: stock three times (the first one warms up), tries and another seed last."""
    begin_table(part, "Speed-ups")
    if not part.fits("all of it", LOAD_S + 3 * SHORT_S):
        return
    alone = {
        option.name: replace(NONE, **{option.name: True})
        for option in fields(Speedups)
        if not (part.size.on_gpu and option.name in ON_THE_CPU)
    }
    with loaded(part, "loaded") as pipeline:
        jobs = Jobs(part, pipeline)
        jobs.job("fast", NONE, "warm-up", short=True)
        jobs.job("fast", NONE, "stock", short=True)
        for what, use in {"stock again": NONE, **alone, "all": ALL}.items():
            if part.fits(f"fast, 3 + 2 steps: {what}", SHORT_S):
                jobs.job("fast", use, what, short=True)
        if part.fits("fast, 3 + 2 steps: all, 4 tries", SHORT_S):
            jobs.job("fast", ALL, "all, 4 tries", short=True, tries=4)
        for what, difference in _octree_differences(pipeline):
            part.row(what, *[""] * (len(STAGES) + 3), f"{difference:.1e}", "")
        if part.fits("fast, 3 + 2 steps: another seed", SHORT_S):
            jobs.job("fast", NONE, "another seed", short=True, seed=45)


def _octree_differences(pipeline: RandomActionMesh) -> Iterator[tuple[str, float]]:
    """The octree decoder's own values, which the figure hides: relative to one pass over all."""
    import torch

    vae = pipeline.pipe.image_to_3d_pipe.vae
    there = {"device": pipeline.device, "dtype": vae.dtype}
    points = torch.rand(1, 20_000, 3, **there) * 2 - 1
    latent = torch.randn(1, *pipeline.pipe._denoiser_latent_shape, **there)
    halves = points.view(2, 10_000, 3)
    with torch.inference_mode(), without_figure(vae):
        whole = vae.decode(latent, points).sample
        with shared_octree_kv(vae):
            shared = torch.cat([vae.decode(latent, half[None]).sample for half in halves], 1)
        pair = vae.decode(latent.expand(2, -1, -1), halves).sample.view_as(whole)
    yield "octree values: shared keys", _relative(shared, whole)
    yield "octree values: stock, two chunks at once", _relative(pair, whole)


def _relative(made: Any, wanted: Any) -> float:
    return float((made - wanted).float().norm() / wanted.float().norm())
