"""Compiles the transformer blocks of both stages when the model is loaded (ACTIONMESH_COMPILE=1).

Every job has the same shapes (windows of 16 frames), so three graphs are enough: stage I's blocks
with and without a skip connection, and stage II's. Low-RAM mode, which halves the batch, adds two.
actionmesh_wrapper.py calls it once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import ActionMeshPreset
from upstream.attention import mixed_precision
from upstream.engine import Engine

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Beside the weights, so that a container's volume keeps both."""
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "inductor"


def compile_blocks(
    engine: Engine,
    preset: ActionMeshPreset,
    cache: Path,
    backend: str | Callable[..., Any] = "inductor",
) -> bool:
    """Compile the blocks, and run each model once so that no job waits for it.

    `cache` keeps the result for the next start, unless TORCHINDUCTOR_CACHE_DIR names a folder.
    False if this machine cannot compile (no C compiler, for instance): the blocks are then as they
    were. Later, a shape that cannot be compiled runs as it is. The last block of stage II is left
    out: its number of vertices differs between jobs.
    """
    import torch

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache))
    denoiser, autoencoder = engine.pipe.temporal_3D_denoiser, engine.pipe.temporal_3D_vae
    blocks = [*denoiser.blocks, *list(autoencoder.blocks)[:-1]]
    for block in blocks:
        block.forward = torch.compile(block.forward, dynamic=False, backend=backend)
    try:
        _run_once(engine, preset)
    except Exception:  # compilers, linkers and drivers raise what they like
        log.warning("the model cannot be compiled here, and runs as it is", exc_info=True)
        for block in blocks:
            del block.forward
        return False
    torch._dynamo.config.suppress_errors = True
    return True


def _run_once(engine: Engine, preset: ActionMeshPreset) -> None:
    """One step of stage I and one frame of stage II, with the shapes of every job."""
    import torch
    import trimesh
    from actionmesh.io.video_input import ActionMeshInput
    from actionmesh.model.utils.storage import LatentBank
    from PIL import Image

    engine.configure(replace(preset, stage_1_steps=1))
    pipe, device = engine.pipe, engine.device
    frames = pipe.cfg.model.temporal_3D_denoiser.temporal_context_size
    times = torch.arange(frames, dtype=torch.float32)
    clip = ActionMeshInput(frames=[Image.new("RGB", (64, 64))] * frames, timesteps=times)
    shape = pipe._denoiser_latent_shape  # (N, D)
    latents = LatentBank(verbose=False, empty_dims=shape)
    latents.update(timesteps=times[[0]], latents=torch.zeros(1, *shape, device=device))
    with torch.inference_mode():
        with engine.on_device("context"):
            context = pipe.encode_all_frames(clip)
        with engine.on_device("motion"), mixed_precision(pipe._dtype, engine.without_cudnn):
            pipe.generate_3d_latents(clip, context=context, latent_bank=latents, seed=0)
        with engine.on_device("decoding"), mixed_precision(pipe._dtype, engine.without_cudnn):
            window, _ = latents.get(timesteps=times.to(device), device=device, add_batch_dim=True)
            pipe._decode_displacement(
                latents=window,
                window_timesteps=times[None].to(device),
                source_alpha=torch.zeros(1, device=device),
                target_alphas=torch.ones(1, 1, device=device),
                anchor_mesh=trimesh.creation.box(),
            )
