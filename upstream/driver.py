"""Runs one job through ActionMesh's stages: background, shape, motion, decoding.

Does what upstream's ActionMeshPipeline.__call__ does (actionmesh/pipeline.py at the pinned commit)
with the same methods in the same order, bit for bit without speed-ups. Adds progress, cancelling at
any step, and an early anchor. Keeps nothing between jobs. Called by actionmesh_wrapper.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu_memory import Part
from meshes.sequence import MeshSequence
from pipeline import ActionMeshPreset, Reporter
from subject.mask_check import MaskCheck
from upstream import speedups
from upstream.anchor import Anchor
from upstream.attention import mixed_precision
from upstream.background import (
    RMBG_BATCH,
    measured,
    remove_background,
    start_check,
    to_pictures,
    with_alpha_of,
)
from upstream.engine import Engine
from upstream.speedups import Speedups
from upstream.tries import Tries
from upstream.user_mesh import UserMesh
from video.clip import Clip


@dataclass(frozen=True)
class AnimationRequest:
    """The input of one attempt: 16, 31, 46 ... frames, parameters, and a mesh to move, if given.

    `tries`: from how many seeds a first shape is made, if none is given.
    """

    clip: Clip
    preset: ActionMeshPreset
    seed: int
    use: Speedups = Speedups()
    mesh: UserMesh | None = None
    tries: int = 1

    @property
    def seeds(self) -> list[int]:
        """One for each try, below 2 ** 32 as in a request."""
        return [(self.seed + k) % 2**32 for k in range(self.tries)]


def animate(engine: Engine, request: AnimationRequest, reporter: Reporter) -> MeshSequence:
    """The anchor's mesh, moved: one timestep for each frame.

    Axes and units are those of the given mesh, else upstream's: +Y up and +Z the front, as in glTF.
    Upstream clamps moved vertices to [-1, 1]; the anchor, timestep 0, may reach 1.005 and is not
    scaled: it would no longer match its motion. Reports the anchor, from this thread, as soon as it
    is finished; with several tries the chosen one's seed, with which alone the result would be the
    same, bit for bit. Raises NoSubjectFound, what torch raises, and what `reporter` raises.
    """
    import torch
    from actionmesh.io.video_input import ActionMeshInput
    from actionmesh.model.utils.storage import LatentBank, MeshBank

    engine.configure(request.preset)
    pictures, alpha, check = _prepared(engine, request, reporter)
    # upstream's stages change their input: make a new one for every attempt
    clip = ActionMeshInput(
        frames=pictures,
        timesteps=torch.arange(len(request.clip), dtype=torch.float32),
    )
    with torch.inference_mode():
        if request.mesh is None:
            tries = Tries(request.seeds, alpha, request.clip.fps, reporter)
            anchor = tries.best_anchor(engine, clip.frames[0], request.use)
        else:
            anchor = request.mesh.make_anchor(engine, request.seed, reporter)
        stages = _Stages(engine, request, reporter, anchor)
        stages.report_anchor()
        with engine.on_device("context"):
            context = engine.pipe.encode_all_frames(clip)
        latents = LatentBank(verbose=False, empty_dims=engine.pipe._denoiser_latent_shape)
        latents.update(timesteps=clip.timesteps[[0]], latents=anchor.latent)
        stages.move(clip, context, latents)
        meshes = MeshBank(verbose=False)
        meshes.update(timesteps=clip.timesteps[[0]], meshes=[anchor.mesh.result()])
        stages.report_anchor()
        stages.decode(latents, meshes)
    if check is not None:
        check.result().warn("RMBG", reporter)
    return _sequence(list(meshes.get_ordered(device="cpu")[0]), request)


def _prepared(
    engine: Engine, request: AnimationRequest, reporter: Reporter
) -> tuple[list[Any], NDArray[np.uint8], Future[MaskCheck] | None]:
    """RGB pictures of the subject on white, all with the same crop; the first frame's whole alpha
    (H, W); and the check of RMBG's masks.

    Reports the subject.
    """
    removed = partial(reporter.progress, "background")
    batch = RMBG_BATCH if request.use.batched_background else 1
    remover = engine.pipe.background_removal
    with engine.on_device("background"), measured(remover) as decided:
        pictures = to_pictures(request.clip.frames)
        pictures = remove_background(remover, pictures, removed, batch)
    cut = with_alpha_of(pictures, request.clip)
    check = start_check(cut, decided)
    reporter.subject(cut)
    alpha = cut.frames[0, ..., 3].copy()
    if request.use.crop_first:
        return speedups.crop_first(pictures, engine.pipe.image_process.padding_ratio), alpha, check
    return list(engine.pipe.image_process.process_images(pictures)), alpha, check


@dataclass
class _Stages:
    """Stages I and II of one attempt, and the report of its anchor."""

    engine: Engine
    request: AnimationRequest
    reporter: Reporter
    anchor: Anchor
    anchor_reported: bool = False

    def report_anchor(self) -> None:
        """Report it as soon as its mesh is finished, once."""
        if not self.anchor_reported and self.anchor.mesh.done():
            self.anchor_reported = True
            mesh = _sequence([self.anchor.mesh.result()], self.request)
            self.reporter.anchor(mesh, self.anchor.seed)

    def move(self, clip: Any, context: Any, latents: Any) -> None:
        """Stage I: fill the bank with a latent for every frame."""

        def moved(step: int, steps: int, window: int, windows: int) -> None:
            self.report_anchor()
            self._progress("motion", step, steps, window, windows)

        pipe, use = self.engine.pipe, self.request.use
        skip = speedups.bias_cross_attention(pipe.temporal_3D_denoiser)
        with self._stage("motion"), skip if use.bias_cross_attention else nullcontext():
            pipe.generate_3d_latents(
                clip,
                context=context,
                latent_bank=latents,
                seed=self.anchor.seed,
                step_callback=moved,
            )

    def decode(self, latents: Any, meshes: Any) -> None:
        """Stage II: fill the bank with a mesh for every frame."""
        total = 1

        def decoding(step: int, steps: int, window: int, windows: int) -> None:
            nonlocal total
            total = windows * steps
            # upstream calls this before a timestep is decoded, not after
            self._progress("decoding", step - 1, steps, window, windows)

        pipe, use = self.engine.pipe, self.request.use
        tail = speedups.decoder_tail(pipe.temporal_3D_vae, use.chunked_queries, use.bfloat16_tail)
        with self._stage("decoding"), tail:
            pipe.generate_mesh_animation(
                latent_bank=latents, mesh_bank=meshes, step_callback=decoding
            )
        self.reporter.progress("decoding", total, total)

    def _progress(self, stage: str, step: int, steps: int, window: int, windows: int) -> None:
        """All windows have the same number of steps."""
        name = f"window {window + 1} of {windows}" if windows > 1 else ""
        self.reporter.progress(stage, window * steps + step, windows * steps, name)

    @contextmanager
    def _stage(self, part: Part) -> Iterator[None]:
        """Inside, the model of stage I or II is on the device, in upstream's precision."""
        use, engine = self.request.use, self.engine
        rotation = speedups.in_place_rotation() if use.in_place_rotation else nullcontext()
        precision = mixed_precision(engine.pipe._dtype, engine.without_cudnn)
        with engine.on_device(part), precision, rotation:
            yield


def _sequence(meshes: list[Any], request: AnimationRequest) -> MeshSequence:
    """The sequence of these trimesh objects, which are in order of time and share their faces."""
    vertices = np.stack([mesh.vertices for mesh in meshes]).astype(np.float32)
    if request.mesh is not None:
        return request.mesh.sequence(vertices, request.clip.fps)
    faces = np.ascontiguousarray(meshes[0].faces, dtype=np.int32)
    return MeshSequence(vertices, faces, request.clip.fps)
