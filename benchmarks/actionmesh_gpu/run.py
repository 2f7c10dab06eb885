"""One job of a loaded pipeline, timed stage by stage, with its peaks of GPU memory.

Called by stages.py. The device is synchronised between stages, which the worker does not do.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.actionmesh_gpu.gpu import free, peak_gb, reset_peak, synchronize
from benchmarks.actionmesh_gpu.random_models import FRAMES, RandomActionMesh
from meshes.sequence import MeshSequence
from pipeline import ActionMeshPreset, Mode
from tests.upstream import tiny
from video.clip import Clip

STAGES = ("background", "shape", "motion", "decoding")

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Run:
    """Seconds and peak GB by stage; `latents` (1, T, N, D) of stage I, `vertices` (T, V, 3)."""

    seconds: dict[str, float]
    peaks_gb: dict[str, float]
    reserved_gb: float
    warnings: list[str]
    latents: Values
    vertices: Values

    @property
    def total_s(self) -> float:
        """From the frames to the last mesh, files left out."""
        return sum(self.seconds.values())

    @property
    def peak_gb(self) -> float:
        """The most that tensors took in any stage."""
        return max(self.peaks_gb.values())

    def cells(self, stock: Run | None) -> list[str]:
        """Its row without the name; with the differences to `stock` if that is given."""
        cells = [f"{self.seconds[stage]:.2f} ({self.peaks_gb[stage]:.1f})" for stage in STAGES]
        cells.append(" ".join([f"{self.total_s:.2f}", *self.warnings]))
        cells.append(f"{self.total_s / stock.total_s:.2f}" if stock else "")
        cells.append(f"{self.peak_gb:.1f} ({self.reserved_gb:.1f})")
        return [*cells, *(self._differences(stock) if stock else ("", ""))]

    def _differences(self, stock: Run) -> tuple[str, str]:
        """Of the latents, relative to their norm; of the vertices, the largest."""
        latents, vertices = "other shape", "other topology"
        if self.latents.shape == stock.latents.shape:
            apart = np.linalg.norm(self.latents - stock.latents)
            latents = f"{apart / np.linalg.norm(stock.latents):.1e}"
        if self.vertices.shape == stock.vertices.shape:
            vertices = f"{np.abs(self.vertices - stock.vertices).max():.1e}"
        return latents, vertices


@dataclass
class Stopwatch:
    """A Reporter: seconds and peaks of memory by stage, and the codes of warnings."""

    device: str
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    peaks_gb: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    reserved_gb: float = 0.0
    warnings: list[str] = field(default_factory=list)
    stage: str = STAGES[0]
    began: float = 0.0

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """A new stage ends the one before. The stages of `load` are not measured."""
        del step, steps, message
        if stage in STAGES and stage != self.stage:
            self.end_stage()
            self.stage = stage

    def end_stage(self) -> None:
        """Wait for the device, then count."""
        synchronize(self.device)
        now = time.perf_counter()
        tensors, reserved = peak_gb(self.device)
        self.seconds[self.stage] += now - self.began
        self.peaks_gb[self.stage] = max(self.peaks_gb[self.stage], tensors)
        self.reserved_gb = max(self.reserved_gb, reserved)
        reset_peak(self.device)
        self.began = now

    def warning(self, code: str, message: str, **facts: Any) -> None:
        """A retry with less memory, for example: shown in the row."""
        del message, facts
        self.warnings.append(code)

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        """Not measured."""

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        """Not measured."""

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        """Not measured."""


def run_job(
    pipeline: RandomActionMesh,
    mode: Mode,
    preset: ActionMeshPreset,
    seed: int,
    filled_gb: float,
    tries: int = 1,
) -> Run:
    """A job of 16 frames with alpha. `filled_gb` of the device are not the pipeline's."""
    latents: list[Any] = []
    watch = Stopwatch(pipeline.device)

    def keep(_module: Any, _positional: Any, given: dict[str, Any]) -> None:
        latents.append(given["latent"])

    def moving(*_: Any) -> None:
        watch.progress("motion", 0, 1)  # upstream's first report comes after the first step

    pipeline.presets = {mode: preset}
    clip = tiny.clip_of(FRAMES, size=pipeline.size.frame_px)
    free(pipeline.device)
    reset_peak(pipeline.device)
    watch.began = time.perf_counter()
    hooks = (
        pipeline.pipe.temporal_3D_denoiser.proj_in.register_forward_pre_hook(moving),
        pipeline.pipe.temporal_3D_vae.register_forward_pre_hook(keep, with_kwargs=True),
    )
    try:
        with contextlib.redirect_stdout(sys.stderr):  # TripoSG prints
            made = pipeline.animate(clip, mode, seed, watch, tries=tries)
    finally:
        for hook in hooks:
            hook.remove()
    watch.end_stage()
    return Run(
        watch.seconds,
        {stage: peak - filled_gb for stage, peak in watch.peaks_gb.items()},
        watch.reserved_gb - filled_gb,
        watch.warnings,
        latents[-1].float().cpu().numpy(),
        made.vertices,
    )
