"""The ActionMesh pipeline: load the weights once, then animate() for every job.

Implements pipeline.Pipeline with facebookresearch/actionmesh (pinned, in actionmesh_repo/). All
code that depends on its internals is in upstream/; this file has the order of steps and the error
handling. The child imports it; torch is imported by `load`, never at import time.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from errors import GpuError, GpuOutOfMemory, VideoTooShort
from gpu_memory import MemoryPlan, choose_plan, needed_gb
from intake.glb_reader import read_glb
from meshes.sequence import MeshSequence
from pipeline import (
    ACTIONMESH,
    CHECKOUT,
    ActionMeshPreset,
    Gpu,
    Mode,
    Reporter,
    SubjectChoice,
    frame_step,
)
from settings import Settings
from upstream import sam2
from upstream.attention import is_cudnn_refusal
from upstream.checkout import open_checkout
from upstream.compilation import cache_folder, compile_blocks
from upstream.cuda_driver import why_torch_finds_none, without_kernels
from upstream.driver import AnimationRequest, animate
from upstream.engine import Engine, build, free_gb, free_memory, read_models
from upstream.gpu_errors import is_cuda_failure, is_out_of_memory, is_usable
from upstream.loading import cast_linears
from upstream.speedups import Speedups
from upstream.subject_choice import with_chosen_alpha
from upstream.user_mesh import UserMesh, normalize_upload
from upstream.weights import ensure_weights
from video.clip import Clip
from video.sampling import MIN_FRAMES

log = logging.getLogger(__name__)


@dataclass(eq=False, repr=False)
class ActionMeshPipeline:
    """One loaded ActionMesh for all modes.

    `device` includes its number, as in torch. `octree_depth` is TripoSG's: the surface comes from
    a grid of about 2 ** depth. `free_gb` is what was free of the GPU's memory before the weights
    were moved there, in GB of 1e9 bytes. `sam2_folder` has SAM 2's weights, if they are here.
    """

    name = "actionmesh"
    # of a fast job of 16 frames on one H100-class GPU, estimated from operation counts
    shares = {"background": 0.04, "shape": 0.26, "motion": 0.51, "decoding": 0.19}

    settings: Settings | None = None
    presets: Mapping[Mode, ActionMeshPreset] = field(default_factory=ACTIONMESH.copy)
    use: Speedups = Speedups()
    device: str = "cuda:0"
    octree_depth: int = 9
    engine: Engine | None = field(default=None, init=False)
    free_gb: float = field(default=math.inf, init=False)
    sam2_folder: Path | None = field(default=None, init=False)
    # each mode's plan in its last job that did not run out of memory
    _plans: dict[Mode, MemoryPlan] = field(default_factory=dict, init=False)

    @property
    def gpu(self) -> Gpu | None:
        """The card of `device`, as torch sees it; None on a CPU."""
        if not self.device.startswith("cuda"):
            return None
        import torch

        free, total = (round(size / 1e9, 1) for size in torch.cuda.mem_get_info(self.device))
        return Gpu(torch.cuda.get_device_name(self.device), total, free)

    def load(self, reporter: Reporter) -> None:
        """Check the checkout, download the weights if needed, move the models to the GPU.

        Reports stage `downloading` in bytes, then `loading` by model. Raises WeightsUnavailable,
        GpuOutOfMemory, GpuError.
        """
        settings = self.settings = self.settings or Settings.from_environment(os.environ)
        open_checkout(CHECKOUT, settings.actionmesh_any_checkout)
        _require_device(self.device)
        fetched = partial(reporter.progress, "downloading", message="Fetching the weights")
        folders = ensure_weights(settings.weight_revisions, fetched)
        self.sam2_folder = folders.sam2
        pipe = build(CHECKOUT, folders)
        read_models(pipe, partial(reporter.progress, "loading", message="Reading the weights"))
        engine = Engine(pipe, self.device, self.octree_depth)
        if self.device.startswith("cuda"):
            cast_linears(pipe, pipe._dtype)
        self._place(engine)
        if settings.actionmesh_fast_math:
            self.use = replace(self.use, bfloat16_tail=True)
        if settings.actionmesh_compile and compile_blocks(
            engine, self.presets["fast"], cache_folder()
        ):
            self.use = self.use.beside_compiled_blocks()
        self.engine = engine

    def find_subject(self, clip: Clip, choice: SubjectChoice | None, reporter: Reporter) -> Clip:
        """The clip with the alpha that SUBJECT or `choice` asks for, or as it is: RMBG follows.

        Raises NoSubjectFound, Cancelled and GpuError.
        """
        settings = self.settings or Settings()

        def follow(clip: Clip, choice: SubjectChoice) -> NDArray[np.uint8]:
            return self._follow(clip, choice, reporter)

        return with_chosen_alpha(clip, choice, settings.subject, follow, reporter)

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
        tries: int = 1,
    ) -> MeshSequence:
        """16, 31, 46 ... frames -> as many timesteps in upstream's axes (+Y up, +Z front), units.

        Call `load` first. With `mesh`, a .glb, that mesh is animated: its vertices, texture and
        units are kept. Of several `tries` the shape that fits the first frame best is animated, as
        with its seed alone. Out of memory, all is done again with more weights on the host, at last
        in low-RAM mode, with a warning. Raises NoSubjectFound, VideoTooShort, InvalidParameter,
        GpuOutOfMemory, Cancelled and GpuError (with the fact `sticky`: this process must end).
        """
        if len(clip) < MIN_FRAMES:
            message = f"ActionMesh needs {MIN_FRAMES} frames, not {len(clip)}"
            raise VideoTooShort(message, frames=len(clip), min_frames=MIN_FRAMES)
        if (len(clip) - MIN_FRAMES) % frame_step(self.name):
            raise ValueError(f"{len(clip)} frames do not fill windows of {MIN_FRAMES}")
        preset = self.presets[mode]
        preset = replace(preset, face_decimation=faces or preset.face_decimation)
        user_mesh = None if mesh is None else _read(mesh, reporter)
        request = AnimationRequest(clip, preset, seed, self.use, user_mesh, tries)
        return self._run(mode, request, reporter)

    def _follow(self, clip: Clip, choice: SubjectChoice, reporter: Reporter) -> NDArray[np.uint8]:
        """Alpha uint8 `(T, H, W)` by SAM 2, which leaves the GPU again. Raises Sam2Unavailable."""
        if self.sam2_folder is None:
            raise sam2.Sam2Unavailable("its weights are not on this server")

        def on_frame(done: int) -> None:
            reporter.progress("background", done, len(clip), "following the subject")

        alphas: NDArray[np.uint8] | None = None
        failure: Exception | None = None
        try:
            frames = clip.frames[..., :3]
            alphas = sam2.follow(self.sam2_folder, frames, choice, self.device, on_frame)
        except RuntimeError as exc:
            failure = _failure_of(exc)
        # outside `except`, as in _attempt
        if failure is not None:
            raise failure
        self._free_memory()
        if alphas is None:
            raise sam2.Sam2Unavailable("the GPU's memory did not suffice")
        return alphas

    def _run(self, mode: Mode, request: AnimationRequest, reporter: Reporter) -> MeshSequence:
        """Try the mode's plan, then those that need less. The mode keeps the one that works."""
        preset = request.preset
        plan = self._plans.get(mode) or choose_plan(preset.low_ram, self.free_gb)
        while plan is not None:
            if plan.low_ram and not preset.low_ram:
                reporter.warning(
                    "low_ram_retry",
                    f"The GPU's memory did not suffice for mode {mode}: the job was done in "
                    "low-RAM mode, with the same steps.",
                )
            meshes = self._attempt(request, plan, reporter)
            if meshes is not None:
                self._plans[mode] = plan
                return meshes
            log.warning("out of GPU memory in mode %s with weights %s", mode, plan.placement)
            plan = choose_plan(preset.low_ram, self.free_gb, failed=plan)
        raise GpuOutOfMemory(
            "The GPU's memory does not suffice, not even in low-RAM mode, which needs about "
            f"{needed_gb(low_ram=True):.1f} GB."
        )

    def _attempt(
        self, request: AnimationRequest, plan: MemoryPlan, reporter: Reporter
    ) -> MeshSequence | None:
        """One run; None if the GPU ran out of memory. What it used of that is free again.

        Where cuDNN refuses an attention, this run and all later ones take other kernels.
        """
        assert self.engine is not None
        request = replace(request, preset=replace(request.preset, low_ram=plan.low_ram))
        meshes: MeshSequence | None = None
        failure: Exception | None = None
        was_refused = False
        try:
            self.engine.place(plan.placement)
            meshes = animate(self.engine, request, reporter)
        except RuntimeError as exc:
            was_refused = not self.engine.without_cudnn and is_cudnn_refusal(exc)
            failure = None if was_refused else _failure_of(exc)
        # outside `except`: inside it the traceback's frames keep every tensor alive
        if failure is not None:
            raise failure
        self._free_memory()
        if was_refused:
            log.warning("cuDNN cannot compute an attention here: other kernels do from now on")
            self.engine.without_cudnn = True
            return self._attempt(request, plan, reporter)
        return meshes

    def _place(self, engine: Engine) -> None:
        """Move the weights to the GPU as far as they fit, before the first job needs them."""
        try:
            self.free_gb = free_gb(engine.device)
            plan = choose_plan(low_ram=False, free_gb=self.free_gb)
            assert plan is not None
            if self.free_gb < needed_gb(low_ram=True):
                log.warning(
                    "%.1f GB of GPU memory are free; even fast_low_ram needs about %.1f GB",
                    self.free_gb,
                    needed_gb(low_ram=True),
                )
            engine.place(plan.placement)
            return
        except RuntimeError as exc:
            failure = _failure_of(exc)
        if failure is not None:
            raise failure
        self._free_memory()
        engine.place("one_part")

    def _free_memory(self) -> None:
        """Give unused memory back, for the next try and for other processes.

        Raises GpuError if the GPU does not answer: out of memory may hide a failed kernel.
        """
        with suppress(RuntimeError):  # the GPU does not answer
            free_memory()
        if not is_usable(self.device):
            raise _gpu_failed()


def _failure_of(exc: RuntimeError) -> Exception | None:
    """None if the GPU ran out of memory; a GpuError if it failed; else `exc`, unchanged.

    Without a cause: it would keep the tensors of the failed attempt alive.
    """
    if is_out_of_memory(exc):
        log.warning("out of GPU memory: %s", exc)
        return None
    if is_cuda_failure(exc):
        log.exception("the GPU failed")
        return _gpu_failed()
    return exc


def _gpu_failed() -> GpuError:
    return GpuError("The GPU or its driver failed while the job ran", sticky=True)


def _read(mesh: Path, reporter: Reporter) -> UserMesh:
    upload = read_glb(mesh)
    if upload.lost_textures:
        reporter.warning(
            "texture_dropped",
            "Your mesh has more than one texture, parts without one, or one that cannot be used: "
            "it is moved without them.",
        )
    return normalize_upload(upload)


def _require_device(device: str) -> None:
    import torch

    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        found = why_torch_finds_none(torch.version.cuda or "")
        raise GpuError(
            f"ActionMesh needs a CUDA GPU, and torch finds none: {found.text}",
            hint=found.hint,
        )
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if too_old := without_kernels(name, capability, torch.cuda.get_arch_list()):
        raise GpuError(f"ActionMesh cannot run on this GPU: {too_old.text}", hint=too_old.hint)
