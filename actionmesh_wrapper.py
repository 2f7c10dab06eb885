"""The ActionMesh pipeline: load the weights once, then animate() for every job.

Implements pipeline.Pipeline with facebookresearch/actionmesh (pinned, in actionmesh_repo/). All
code that depends on its internals is in upstream/; this file has the order of steps and the error
handling. The child imports it; torch is imported by `load`, never at import time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from errors import GpuError, GpuOutOfMemory, VideoTooShort
from meshes.sequence import MeshSequence
from pipeline import ACTIONMESH, ActionMeshPreset, Mode
from settings import Settings
from upstream.anchor import anchor_from_picture
from upstream.checkout import open_checkout
from upstream.driver import AnimationRequest, MeshArrays, animate, to_arrays
from upstream.engine import Engine, build, free_memory, read_models
from upstream.glb_reader import read_glb
from upstream.gpu_errors import is_cuda_failure, is_out_of_memory
from upstream.speedups import Speedups, compile_blocks
from upstream.user_mesh import UserMesh, normalize_upload
from upstream.weights import ensure_weights
from video.clip import Clip
from video.sampling import MAX_FRAMES, MIN_FRAMES

if TYPE_CHECKING:
    from pipeline import Reporter

log = logging.getLogger(__name__)

CHECKOUT = Path(__file__).parent / "actionmesh_repo"


class ActionMeshPipeline:
    """One loaded ActionMesh for all modes.

    `device` includes its number, as in torch. `octree_depth` is TripoSG's: the surface comes from a
    grid of about 2 ** depth.
    """

    name: Literal["actionmesh"] = "actionmesh"
    # of a fast job of 16 frames on one H100-class GPU, estimated from operation counts
    shares: Mapping[str, float] = {
        "background": 0.04,
        "shape": 0.26,
        "motion": 0.51,
        "decoding": 0.19,
    }

    def __init__(
        self,
        settings: Settings | None = None,
        checkout: Path = CHECKOUT,
        presets: Mapping[Mode, ActionMeshPreset] = ACTIONMESH,
        use: Speedups | None = None,
        device: str = "cuda:0",
        octree_depth: int = 9,
    ) -> None:
        self._settings = settings
        self._checkout = checkout
        self._presets = presets
        self._use = use or Speedups()
        self._device = device
        self._octree_depth = octree_depth
        self._engine: Engine | None = None

    def load(self, reporter: Reporter) -> None:
        """Check the checkout, download the weights if needed, move the models to the GPU.

        Reports stage `downloading` in bytes, then `loading` by model. Raises WeightsUnavailable,
        GpuOutOfMemory, GpuError.
        """
        settings = self._settings or Settings.from_environment(os.environ)
        open_checkout(self._checkout, settings.actionmesh_any_checkout)
        _require_device(self._device)

        def fetched(done: int, total: int) -> None:
            reporter.progress("downloading", done, total, "Fetching the weights")

        def reading(done: int, models: int) -> None:
            reporter.progress("loading", done, models, "Reading the weights")

        folders = ensure_weights(settings.weight_revisions, fetched)
        pipe = build(self._checkout, folders)
        read_models(pipe, reading)
        engine = Engine(pipe, self._device, self._octree_depth)
        _place(engine)
        if settings.actionmesh_compile:
            compile_blocks(pipe, settings.hf_home)
            self._use = self._use.beside_compiled_blocks()
        self._engine = engine

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
    ) -> MeshSequence:
        """16 or 31 frames -> as many timesteps, in upstream's axes (+Y up, +Z front) and units.

        With `mesh`, a .glb, that mesh is animated: its vertices, texture and units are kept. Out of
        memory, it tries once more in low-RAM mode, with a warning. Raises NoSubjectFound,
        VideoTooShort, InvalidParameter, GpuOutOfMemory, GpuError (with the fact `sticky`: this
        process must end) and Cancelled.
        """
        _check_length(len(clip))
        if self._engine is None:
            self.load(reporter)
        user_mesh = None if mesh is None else _read(mesh, reporter)
        preset = self._presets[mode]
        preset = replace(preset, face_decimation=faces or preset.face_decimation)
        meshes = self._attempt(clip, preset, seed, reporter, user_mesh)
        if meshes is None and not preset.low_ram:
            log.warning("out of GPU memory in mode %s: trying once more in low RAM", mode)
            reporter.warning(
                "low_ram_retry",
                f"The GPU's memory did not suffice for mode {mode}: the job was done in low-RAM "
                "mode, with the same steps.",
            )
            meshes = self._attempt(clip, replace(preset, low_ram=True), seed, reporter, user_mesh)
        if meshes is None:
            raise GpuOutOfMemory("The GPU's memory does not suffice, not even in low-RAM mode")
        return meshes

    def _attempt(
        self,
        clip: Clip,
        preset: ActionMeshPreset,
        seed: int,
        reporter: Reporter,
        user_mesh: UserMesh | None,
    ) -> MeshSequence | None:
        """One run. None if the GPU ran out of memory; that memory is then free again."""
        assert self._engine is not None
        make_anchor = anchor_from_picture if user_mesh is None else user_mesh.make_anchor
        request = AnimationRequest(clip.frames, preset, seed, self._use, make_anchor)

        def sequence(shape: MeshArrays) -> MeshSequence:
            if user_mesh is not None:
                return user_mesh.sequence(shape.vertices, clip.fps)
            return MeshSequence(shape.vertices, shape.faces, clip.fps)

        def show(shape: MeshArrays) -> None:
            reporter.anchor(sequence(shape))

        failure: BaseException | None = None
        try:
            shape = to_arrays(animate(self._engine, request, reporter.progress, show))
        except RuntimeError as exc:
            failure = _to_our_error(exc)
        if failure is None:
            return sequence(shape)
        # outside `except`: inside it the traceback's frames keep every tensor alive
        free_memory()
        if isinstance(failure, GpuOutOfMemory):
            return None
        raise failure


def _to_our_error(exc: RuntimeError) -> Exception:
    """Map torch's errors to ours; an error that is not the GPU's is returned unchanged.

    Without a cause: it would keep the tensors of the failed attempt alive.
    """
    if is_out_of_memory(exc):
        log.warning("out of GPU memory: %s", exc)
        return GpuOutOfMemory("The GPU's memory does not suffice")
    if is_cuda_failure(exc):
        log.exception("the GPU failed")
        return GpuError("The GPU or its driver failed while the job ran", sticky=True)
    return exc


def _place(engine: Engine) -> None:
    """Move all weights to the GPU if they fit, so that the first job does not wait for them."""
    failure: BaseException | None = None
    try:
        engine.place(hosted=not _fits_all_weights(engine.device))
    except RuntimeError as exc:
        failure = _to_our_error(exc)
    if isinstance(failure, GpuOutOfMemory):
        engine.place(hosted=True)
    elif failure is not None:
        raise failure


def _fits_all_weights(device: str) -> bool:
    import torch

    if not device.startswith("cuda"):
        return True
    memory_gb = torch.cuda.get_device_properties(device).total_memory / 1e9
    return bool(memory_gb >= ACTIONMESH["fast"].min_vram_gb * 0.95)


def _read(mesh: Path, reporter: Reporter) -> UserMesh:
    upload = read_glb(mesh)
    if upload.lost_textures:
        reporter.warning(
            "texture_dropped",
            "Your mesh has more than one texture, or parts without one: it is moved without them.",
        )
    return normalize_upload(upload)


def _check_length(frames: int) -> None:
    if frames < MIN_FRAMES:
        raise VideoTooShort(
            f"ActionMesh needs {MIN_FRAMES} frames, not {frames}",
            frames=frames,
            min_frames=MIN_FRAMES,
        )
    if frames not in (MIN_FRAMES, MAX_FRAMES):
        raise ValueError(f"a clip has {MIN_FRAMES} or {MAX_FRAMES} frames, not {frames}")


def _require_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise GpuError(
            "ActionMesh needs a CUDA GPU, and torch finds none",
            hint="Check the driver with nvidia-smi, or set PIPELINE=silhouette.",
        )
