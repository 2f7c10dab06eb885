"""The Pipeline and Reporter protocols, and the choice of the pipeline for this machine.

child/pipelines.py builds the pipeline; the API process shows which one runs and why. Neither the
choice nor the import loads numpy or torch: gpus.py finds the GPUs through NVML.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from gpu_memory import needed_gb

if TYPE_CHECKING:
    from meshes.sequence import MeshSequence
    from video.clip import Clip

Mode = Literal["default", "fast", "fast_low_ram"]
MODES: tuple[Mode, ...] = get_args(Mode)

CHECKOUT = Path(__file__).parent / "actionmesh_repo"
_GPU_PACKAGES = ("torch", "diffusers", "transformers", "hydra", "trimesh")


class Reporter(Protocol):
    """What a pipeline reports to while it works. May raise Cancelled if the job is cancelled."""

    def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
        """`step` of `steps` is done in `stage` (background, shape, motion or decoding)."""

    def warning(self, code: str, message: str, **facts: Any) -> None:
        """A warning, shown with the finished job; `facts` are JSON values, such as `boxes`."""

    def subject(
        self, clip: Clip, method: str | None = None, confidence: float | None = None
    ) -> None:
        """The frames with the alpha that is used: shown while the job goes on, kept as masks.

        `method` is how it was found, `confidence` (0 to 1) how sure that is; None is not known.
        """

    def tried(self, mesh: MeshSequence, seed: int, outline: float) -> None:
        """One timestep of one of several shapes, of which one becomes the anchor.

        `outline` is the IoU, 0 to 1, of its outline with the first frame's. At most 8 seeds.
        """

    def anchor(self, mesh: MeshSequence, seed: int | None = None) -> None:
        """The first mesh: one timestep, shown while the job goes on.

        `seed` is the one that it was made from, where several were tried.
        """


@dataclass(frozen=True)
class SubjectChoice:
    """Which subject the client wants, in fractions of the first frame used: one of the two.

    `box` is left, top, right, bottom; `point` is x, y.
    """

    box: tuple[float, float, float, float] | None = None
    point: tuple[float, float] | None = None


class Pipeline(Protocol):
    """Makes an animated mesh from frames. Built once per child process, used for many jobs.

    It may have an attribute `gpu`, a Gpu: the card it was loaded on, shown in /info; `needs_alpha`,
    True if its frames must have an alpha channel, which subject/ then makes; and a method
    `find_subject(clip, choice, reporter) -> Clip`, its own way to make one.
    """

    @property
    def name(self) -> str:
        """As shown in /info and in every job."""

    @property
    def shares(self) -> Mapping[str, float]:
        """Approximate share of `animate`'s time for each of its stages; the sum is 1.

        With 16 frames: all but `shape` take longer with more.
        """

    def load(self, reporter: Reporter) -> None:
        """Load what every job needs. Raises WeightsUnavailable, GpuError."""

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
        """`mesh` is a .glb to be animated like the subject; its pose is that of the first frame.

        `faces` is about how many triangles a new mesh shall have, `tries` from how many seeds a
        shape is made before one of them moves. They are passed, by name, only where the client
        asked for them: a pipeline without such a parameter serves all other jobs.

        Raises NoSubjectFound, GpuOutOfMemory, GpuError, Cancelled; InvalidParameter for a mesh that
        cannot be read, ModeUnavailable if the pipeline accepts none.
        """


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU. Memory in GB of 1e9 bytes, free at the time of the call.

    `selector` is the value of CUDA_VISIBLE_DEVICES for a process that is to use this GPU only; ""
    if its environment needs no change.
    """

    name: str
    memory_gb: float
    free_gb: float = 0.0
    selector: str = ""


def smallest(gpus: Iterable[Gpu]) -> Gpu | None:
    """The one with the least memory: a job may run on any, so its mode must fit this one."""
    return min(gpus, key=lambda gpu: gpu.memory_gb, default=None)


@dataclass(frozen=True)
class PipelineChoice:
    """Which pipeline runs, why, and on which GPU: the smallest if there are several.

    `elsewhere`: jobs run on other machines, whose GPUs are not known here.
    """

    name: str
    reason: str
    gpu: Gpu | None
    elsewhere: bool = False

    @property
    def may_use_cuda(self) -> bool:
        """True if its process must be free to reserve and map more memory than it uses."""
        return self.name != "silhouette"


def choose_pipeline(wanted: str = "auto", gpu: Gpu | None = None) -> PipelineChoice:
    """`wanted` is auto, actionmesh, silhouette, or `module:Class` for your own pipeline.

    The choice depends on hardware and packages only: with a GPU, missing weights are downloaded or
    are an error; the silhouette pipeline is never used silently instead.
    """
    if wanted != "auto":
        return PipelineChoice(wanted, f"PIPELINE={wanted}", gpu)
    if gpu is None:
        return PipelineChoice("silhouette", "no CUDA GPU was found", None)
    missing = [name for name in _GPU_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        missing_part = f"not the packages {', '.join(missing)}"
    elif not (CHECKOUT / "actionmesh").is_dir():
        missing_part = "actionmesh_repo is empty"
    else:
        return PipelineChoice("actionmesh", f"a CUDA GPU was found ({gpu.name})", gpu)
    reason = f"a GPU is here ({gpu.name}), but {missing_part}: run `make actionmesh`"
    return PipelineChoice("silhouette", reason, gpu)


def frame_step(pipeline: str) -> int:
    """A job of the pipeline of this name has 16 frames, or a multiple of this more."""
    return 15 if pipeline == "actionmesh" else 1  # windows of 16 frames that share one


_MEMORY_GB = {"silhouette": 4.0, "actionmesh": 24.0}
"""A silhouette needs 0.7 GB, and 1.2 with 121 frames. ActionMesh may hold all its weights as on
disk while it loads (16 GB), later those that wait for their stage (8.7 GB); the rest is for
libraries, frames and meshes."""


def child_memory_mb(pipeline: str, wanted_gb: float = 0.0) -> int:
    """How much host memory, in MiB, a process that runs jobs may use; 0 is no limit.

    `wanted_gb`, of 1e9 bytes, replaces what is usual: no limit for a pipeline of one's own.
    """
    return round((wanted_gb or _MEMORY_GB.get(pipeline, 0.0)) * 1e9 / (1 << 20))


# --- what a mode means: every number, for each pipeline


@dataclass(frozen=True)
class SilhouettePreset:
    """The CPU pipeline's numbers.

    `crop_px` is the side of the square that frames are cropped to; `vertices` the target size of
    the mesh; `control_nodes` that of the 2-D mesh which is tracked; `reference_candidates` how many
    frames are tried as the mesh's reference; `reanchor` compares every frame with the reference
    picture once more.

    Measured on the camel and the kangaroo with alpha (`python -m benchmarks.silhouette`, one core
    of an AMD EPYC; IoU is the projected mesh's against the true mask, colour the texture's mean
    error of 255):

    | mode         | CPU s, 16 / 31 frames | peak RSS MB | IoU mean | worst frame | colour |
    |--------------|-----------------------|-------------|----------|-------------|--------|
    | default      | 6 / 9                 | 360         | .98      | .97         | 10, 28 |
    | fast         | 3 / 5                 | 260         | .96-.98  | .86         | 13, 32 |
    | fast_low_ram | 2 / 3                 | 220         | .96-.97  | .92         | 15, 38 |

    A plain background adds 1.3 s, a busy one 3.5 s.
    """

    crop_px: int
    vertices: int
    control_nodes: int
    reference_candidates: int
    reanchor: bool


SILHOUETTE: dict[Mode, SilhouettePreset] = {
    "default": SilhouettePreset(512, 10_000, 1_000, 8, True),
    "fast": SilhouettePreset(384, 6_000, 700, 4, False),
    "fast_low_ram": SilhouettePreset(320, 4_000, 400, 2, False),
}


@dataclass(frozen=True)
class ActionMeshPreset:
    """Upstream's numbers: actionmesh/configs/actionmesh*.yaml and inference scripts, as pinned.

    `low_ram`: stage I runs the halves of guidance one by one and keeps no converted weights.
    """

    stage_0_steps: int
    stage_1_steps: int
    guidance_scale: float
    face_decimation: int
    floaters_threshold: float
    low_ram: bool

    @property
    def min_vram_gb(self) -> int:
        """GPU memory that the mode needs here, an estimate; gpu_memory.py has its parts."""
        return math.ceil(needed_gb(self.low_ram))


ACTIONMESH: dict[Mode, ActionMeshPreset] = {
    "default": ActionMeshPreset(100, 30, 7.5, 40_000, 0.02, False),
    "fast": ActionMeshPreset(50, 15, 7.5, 40_000, 0.02, False),
    "fast_low_ram": ActionMeshPreset(50, 15, 7.5, 40_000, 0.02, True),
}
