"""The octree decoder's own values with and without shared keys, which the torus hides.

Called by stages.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.actionmesh_gpu.random_models import RandomActionMesh, without_torus
from upstream.speedups import shared_octree_kv


def logits_differences(pipeline: RandomActionMesh) -> Iterator[tuple[str, float]]:
    """What is compared, and the relative difference of its values to one pass over all points."""
    import torch

    vae = pipeline.pipe.image_to_3d_pipe.vae
    there = {"device": pipeline.device, "dtype": vae.dtype}
    points = torch.rand(1, 20_000, 3, **there) * 2 - 1
    latent = torch.randn(1, *pipeline.pipe._denoiser_latent_shape, **there)
    halves = points.view(2, 10_000, 3)
    with torch.inference_mode(), without_torus(vae):
        whole = vae.decode(latent, points).sample
        with shared_octree_kv(vae):
            shared = torch.cat([vae.decode(latent, half[None]).sample for half in halves], 1)
        pair = vae.decode(latent.expand(2, -1, -1), halves).sample.view_as(whole)
    yield "octree values: shared keys", _relative(shared, whole)
    yield "octree values: stock, two chunks at once", _relative(pair, whole)


def _relative(made: Any, wanted: Any) -> float:
    return float((made - wanted).float().norm() / wanted.float().norm())
