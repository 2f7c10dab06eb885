"""What a pipeline is, and which one runs on this machine. child/pipelines.py builds it.

The API process uses this to say which pipeline runs and why. Neither the choice nor the import
touches numpy or torch: the GPU is asked through NVML.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from meshes.sequence import MeshSequence
    from presets import Mode
    from video.clip import Clip

UPSTREAM = Path(__file__).parent / "actionmesh_repo"
_GPU_PACKAGES = ("torch", "diffusers", "transformers", "hydra", "trimesh")


class Reporter(Protocol):
    """What a pipeline tells while it works. Every call raises Cancelled in a cancelled job."""

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """`step` of `steps` is done in `stage` (background, shape, motion or decoding)."""

    def warning(self, code: str, message: str) -> None:
        """Something that a finished job should still tell its owner."""

    def anchor(self, mesh: MeshSequence) -> None:
        """The shape before it moves: one timestep, shown while the job goes on."""


class Pipeline(Protocol):
    """Frames in, animated mesh out. Built once per child, asked many times."""

    @property
    def name(self) -> str:
        """As it stands in /info and in every job."""

    @property
    def shares(self) -> Mapping[str, float]:
        """How much of `animate`'s time each of its stages takes, about; sums to 1."""

    def load(self, reporter: Reporter) -> None:
        """Make ready what every job needs. Raises WeightsUnavailable, GpuError."""

    def animate(
        self,
        clip: Clip,
        mode: Mode,
        seed: int,
        reporter: Reporter,
        mesh: Path | None = None,
        faces: int | None = None,
    ) -> MeshSequence:
        """`mesh` is a .glb to be moved as the subject moves; it stands as in the first frame.

        `faces` is about how many triangles a new mesh shall have. It is passed, by name, only where
        the client asked for it: a pipeline without this parameter serves all other jobs.

        Raises NoSubjectFound, GpuOutOfMemory, GpuError, Cancelled; InvalidParameter for a mesh that
        cannot be read, ModeUnavailable where the pipeline takes none.
        """


@dataclass(frozen=True)
class Gpu:
    """The first CUDA GPU, as NVML tells it. Memory in GB of 1e9 bytes; free is what was then."""

    name: str
    memory_gb: float
    free_gb: float = 0.0


@dataclass(frozen=True)
class PipelineChoice:
    """Which pipeline runs, why, and on what.

    `elsewhere`: on other machines, whose GPUs this one does not know.
    """

    name: str
    reason: str
    gpu: Gpu | None
    elsewhere: bool = False


def find_gpu() -> Gpu | None:
    """Ask NVML for the first GPU; None where there is none, or no driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(0)
            name = pynvml.nvmlDeviceGetName(handle)
            memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
            total, free = (round(int(size) / 1e9, 1) for size in (memory.total, memory.free))
            return Gpu(str(name), total, free)
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return None


def choose_pipeline(wanted: str = "auto", gpu: Gpu | None = None) -> PipelineChoice:
    """`wanted` is auto, actionmesh, silhouette, or `module:Class` for a pipeline of your own.

    With a GPU, missing weights are a download or an error, never a silent silhouette: the choice
    looks at hardware and packages only.
    """
    if wanted != "auto":
        return PipelineChoice(wanted, f"PIPELINE={wanted}", gpu)
    if gpu is None:
        return PipelineChoice("silhouette", "no CUDA GPU was found", None)
    missing = [name for name in _GPU_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"a GPU is here ({gpu.name}), but not the packages {', '.join(missing)}"
        return PipelineChoice("silhouette", f"{what}: run `make actionmesh`", gpu)
    if not (UPSTREAM / "actionmesh").is_dir():
        what = f"a GPU is here ({gpu.name}), but actionmesh_repo is empty"
        return PipelineChoice("silhouette", f"{what}: run `make actionmesh`", gpu)
    return PipelineChoice("actionmesh", f"a CUDA GPU was found ({gpu.name})", gpu)
