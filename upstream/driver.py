"""Runs one job through ActionMesh's stages: background, shape, motion, decoding.

Does what upstream's ActionMeshPipeline.__call__ does (actionmesh/pipeline.py at the pinned commit)
with the same methods in the same order, bit for bit without speed-ups. Adds progress, cancelling at
any step, and an early anchor. Keeps nothing between jobs. Called by actionmesh_wrapper.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import ActionMeshPreset
from upstream import speedups
from upstream.anchor import Anchor, MakeAnchor, Progress, anchor_from_picture
from upstream.background import RMBG_BATCH, remove_background, to_pictures
from upstream.engine import Engine
from upstream.speedups import Speedups


@dataclass(frozen=True)
class MeshArrays:
    """Vertices float32 (T, V, 3) over faces int32 (F, 3), in upstream's axes and units.

    +Y is up and +Z the front, as in glTF. Upstream clamps moved vertices to [-1, 1]; the anchor,
    timestep 0, may reach 1.005 and is not scaled: it would no longer match its motion.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class AnimationRequest:
    """The input of one attempt: frames uint8 (T, H, W, 3|4) with T 16 or 31, and parameters."""

    frames: NDArray[np.uint8]
    preset: ActionMeshPreset
    seed: int
    use: Speedups = Speedups()
    make_anchor: MakeAnchor = anchor_from_picture


def animate(
    engine: Engine,
    request: AnimationRequest,
    progress: Progress,
    on_anchor: Callable[[MeshArrays], None],
) -> list[Any]:
    """Meshes (trimesh) in order of time, all with the anchor's faces.

    `on_anchor` is called in this thread as soon as the anchor is finished. Raises NoSubjectFound,
    what torch raises, and what `progress` raises.
    """
    import torch
    from actionmesh.io.video_input import ActionMeshInput
    from actionmesh.model.utils.storage import LatentBank, MeshBank

    engine.configure(request.preset)
    # upstream's stages change their input: make a new one for every attempt
    clip = ActionMeshInput(
        frames=_prepared(engine, request, progress),
        timesteps=torch.arange(len(request.frames), dtype=torch.float32),
    )
    with torch.inference_mode():
        anchor = request.make_anchor(engine, clip.frames[0], request.seed, progress, request.use)
        announce = _once_ready(anchor, on_anchor)
        with engine.on_device("context"):
            context = engine.pipe.encode_all_frames(clip)
        latents = LatentBank(verbose=False, empty_dims=engine.pipe._denoiser_latent_shape)
        latents.update(timesteps=clip.timesteps[[0]], latents=anchor.latent)
        _move(engine, request, clip, context, latents, progress, announce)
        meshes = MeshBank(verbose=False)
        meshes.update(timesteps=clip.timesteps[[0]], meshes=[anchor.mesh()])
        announce()
        _decode(engine, request, latents, meshes, progress)
    return list(meshes.get_ordered(device="cpu")[0])


def to_arrays(meshes: list[Any]) -> MeshArrays:
    """Arrays of trimesh objects with the same faces."""
    return MeshArrays(
        np.stack([mesh.vertices for mesh in meshes]).astype(np.float32),
        np.ascontiguousarray(meshes[0].faces, dtype=np.int32),
    )


def _prepared(engine: Engine, request: AnimationRequest, progress: Progress) -> list[Any]:
    """RGB pictures of the subject on white, all with the same crop."""

    def removed(frame: int, frames: int) -> None:
        progress("background", frame, frames, "")

    batch = RMBG_BATCH if request.use.batched_background else 1
    with engine.on_device("background"):
        pictures = to_pictures(request.frames)
        pictures = remove_background(engine.pipe.background_removal, pictures, removed, batch)
    if request.use.crop_first:
        return speedups.crop_first(pictures, engine.pipe.image_process.padding_ratio)
    return list(engine.pipe.image_process.process_images(pictures))


def _move(
    engine: Engine,
    request: AnimationRequest,
    clip: Any,
    context: Any,
    latents: Any,
    progress: Progress,
    announce: Callable[[], None],
) -> None:
    """Stage I: fill the bank with a latent for every frame."""

    def moved(step: int, steps: int, window: int, windows: int) -> None:
        announce()
        progress("motion", window * steps + step, windows * steps, _window_name(window, windows))

    denoiser = engine.pipe.temporal_3D_denoiser
    skip = request.use.bias_cross_attention
    with engine.on_device("motion"), _mixed_precision(engine, request.use):
        with speedups.bias_cross_attention(denoiser) if skip else nullcontext():
            engine.pipe.generate_3d_latents(
                clip, context=context, latent_bank=latents, seed=request.seed, step_callback=moved
            )


def _decode(
    engine: Engine, request: AnimationRequest, latents: Any, meshes: Any, progress: Progress
) -> None:
    """Stage II: fill the bank with a mesh for every frame."""
    total = [1]

    def decoding(step: int, steps: int, window: int, windows: int) -> None:
        # upstream calls this before a timestep is decoded, not after
        total[0] = windows * steps
        progress("decoding", window * steps + step - 1, total[0], _window_name(window, windows))

    with engine.on_device("decoding"), _mixed_precision(engine, request.use):
        engine.pipe.generate_mesh_animation(
            latent_bank=latents, mesh_bank=meshes, step_callback=decoding
        )
    progress("decoding", total[0], total[0], "")


def _once_ready(anchor: Anchor, on_anchor: Callable[[MeshArrays], None]) -> Callable[[], None]:
    """A function that calls `on_anchor` once, as soon as the mesh is finished."""
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced and anchor.ready():
            announced = True
            on_anchor(to_arrays([anchor.mesh()]))

    announce()
    return announce


@contextmanager
def _mixed_precision(engine: Engine, use: Speedups) -> Iterator[None]:
    """Autocast like upstream's, with our order of attention kernels."""
    import torch

    with torch.autocast(device_type="cuda", dtype=engine.pipe._dtype):
        with (
            speedups.attention_priority(engine.device) if use.attention_priority else nullcontext()
        ):
            yield


def _window_name(window: int, windows: int) -> str:
    return f"window {window + 1} of {windows}" if windows > 1 else ""
