"""The replies of the API as pydantic models: replies are built from them, /openapi.json shows them.

Only the fields that were set are written (api/responses.py), so a field with a default here is one
that a reply may lack.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from intake.inspect import ClipFacts
from job.options import JobOptions
from pipeline import Mode

Status = Literal["queued", "running", "finished", "error", "cancelled"]
STAGES = ("fetching", "extracting", "loading", "background", "shape", "motion", "decoding",
          "exporting", "rendering")  # fmt: skip
Stage = Annotated[str, WithJsonSchema({"type": "string", "enum": STAGES})]
"""Those of our pipelines; your own pipeline may have others."""


class Health(BaseModel):
    """Liveness: exactly these two keys."""

    status: Literal["healthy", "unhealthy"]
    gpu_available: bool


class DownloadProgress(BaseModel):
    done_bytes: int
    total_bytes: int


Reason = Literal["starting", "downloading_weights", "loading_model", "draining", "disk_full",
                 "storage_unavailable", "gpu_unavailable"]  # fmt: skip


class Ready(BaseModel):
    """Readiness: whether a job sent now would run at once."""

    ready: bool
    reason: Reason | None = None
    progress: DownloadProgress | None = None


class PipelineInfo(BaseModel):
    """Which pipeline runs here, and why."""

    name: str
    reason: str


class ModelInfo(BaseModel):
    """The model behind the pipeline, and what its licence allows."""

    name: str
    revision: str | None
    license: str
    notice: str


class GpuInfo(BaseModel):
    """The smallest CUDA GPU in use. Memory in GB of 1e9 bytes."""

    name: str
    memory_gb: float


class SlotInfo(GpuInfo):
    """One GPU in use, and what its process does.

    `unloaded`: its turn to load has not come, or it was idle. `lost`: it failed and has not loaded
    again.
    """

    index: int
    state: Literal["busy", "ready", "loading", "unloaded", "lost", "broken"]


class ModeInfo(BaseModel):
    """One mode. `typical_seconds` is the median of this server's last jobs, None before any.

    It is for `limits.default_frames`; `seconds_per_frame` is what each further one adds.
    """

    id: Mode
    min_vram_gb: int | None
    available: bool
    default: bool
    typical_seconds: float | None
    seconds_per_frame: float | None


class Limits(BaseModel):
    """What a request may hold. A job has `min_frames`, or a multiple of `frame_step` more."""

    max_upload_bytes: int
    min_frames: int
    max_frames: int
    default_frames: int
    frame_step: int
    max_queue: int
    formats: list[str]


class QueueCounts(BaseModel):
    """Jobs that have not ended."""

    queued: int
    running: int


class Info(BaseModel):
    """What this server runs and supports."""

    name: str
    version: str
    pipeline: PipelineInfo
    model: ModelInfo
    gpu: GpuInfo | None
    gpus: list[SlotInfo]
    modes: list[ModeInfo]
    limits: Limits
    features: dict[str, bool]
    queue: QueueCounts
    options: dict[str, Any] = Field(
        description="The JSON schema of each option of POST /jobs: its range and its default."
    )


class Accepted(BaseModel):
    """Exactly these two keys."""

    job_id: str
    status: Literal["queued"]


NOT_SHOWN = {"mode", "webhook_url"}
"""`mode` is beside the options, and a webhook_url is the caller's secret."""
Options = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "What the client asked for, defaults filled in.",
            "properties": {
                name: field
                for name, field in JobOptions.model_json_schema()["properties"].items()
                if name not in NOT_SHOWN
            },
        }
    ),
]


CLIP_FACTS: dict[str, Any] = {
    name: (hint | None, ...)
    for name, hint in get_type_hints(ClipFacts).items()
    if name != "container"
}
Input = create_model(
    "Input",
    __doc__="The video; all None while a video_url is still being fetched.",
    **CLIP_FACTS,
    seed=(int, ...),
)


class JobProgress(BaseModel):
    """How far a running job is. `percent` never falls within an attempt."""

    percent: float = Field(ge=0, le=100)
    stage: Stage
    step: int
    steps: int
    message: str
    eta_seconds: float | None


class Outputs(BaseModel):
    """Addresses of the files. None comes with a warning.

    The first three keys are always there, `skinned_mesh` and `compact_mesh` where asked for.
    """

    per_frame_meshes: list[str]
    animated_mesh: str | None
    preview_video: str | None
    archive: str | None = None
    poster: str | None = None
    source_video: str | None = None
    subject: str | None = None
    masks: str | None = None
    fbx: str | None = None
    abc: str | None = None
    abc_texture: str | None = Field(None, description="The picture of `abc`, which holds none.")
    usdz: str | None = None
    npz: str | None = None
    skinned_mesh: str | None = Field(None, description="None if no bones move it well enough.")
    skinned_fbx: str | None = None
    skinned_usdz: str | None = None
    compact_mesh: str | None = Field(None, description="None if it could not be made.")


class File(BaseModel):
    name: str
    bytes: int
    sha256: str


class Warning_(BaseModel):
    code: str
    message: str
    boxes: list[str] | None = Field(
        None, description="Of the subjects found, each as `subject_box` takes it."
    )
    frames: list[int] | None = Field(None, description="The meshes concerned, from 0.")
    rms: float | None = Field(
        None, description="Of a skin's errors, as a fraction of the diagonal of the first mesh."
    )
    p99: float | None = Field(None, description="99 % of the errors are smaller than this.")
    largest: float | None = None
    outline_first: float | None = Field(
        None, description="Mean overlap of outlines in the first 16 frames, where it falls."
    )
    outline_last: float | None = Field(None, description="The same in the last 15.")


class FoundSubject(BaseModel):
    """How the subject was found."""

    method: str | None
    confidence: float | None = Field(description="From 0 to 1.")
    box: str | None = Field(description="In the first frame, as `subject_box` takes it.")


class FoundView(BaseModel):
    """Where the video was filmed from, in the space of the meshes: +Y up, the front is +Z."""

    kind: Literal["constant", "centred", "exact"] = Field(
        description="One camera for all frames; one that follows the subject, of the first frame "
        "here; or known, not fitted."
    )
    azimuth: float = Field(description="Degrees from the front towards +X: 90 is from +X.")
    elevation: float = Field(description="Degrees above the horizon.")
    roll: float = Field(description="Degrees that the camera is turned clockwise.")
    distance: float | None = Field(description="From `centre`; null: orthographic.")
    focal: float | None = Field(description="In pixels of the source; null: orthographic.")
    centre: list[float] = Field(description="Middle of the box around all meshes.")
    matrix: list[list[float]] = Field(
        description="3 x 4: maps x, y, z, 1 to u w, v w, w, where u, v are pixels of the source's "
        "upright frames, from the upper left corner."
    )


class ScoreBody(BaseModel):
    """How well the meshes fit the video, seen through `view`."""

    outline_mean: float = Field(
        description="Mean overlap (IoU, 0 to 1) of the meshes' outlines with the subject's."
    )
    outline_worst: float
    worst_frame: int = Field(description="The mesh with that overlap, from 0.")
    motion: float | None = Field(
        description="1: moves as the subject does; 0: not, or otherwise. Null: the video moves too "
        "little to judge."
    )
    video_motion: float = Field(description="1 minus the mean IoU of the subject's own outlines.")
    runner_up: float | None = Field(
        description="Mean overlap of the best view from elsewhere; null if `view` was not fitted."
    )
    outlines: list[float] = Field(description="The overlap of each mesh.")


class TextureBody(BaseModel):
    """Where the colours come from. `seen`, `mirrored` and `filled` are parts of the surface."""

    state: Literal["baked", "given", "skipped", "failed"] = Field(
        description="Painted from the video; the mesh's own; left out; or an error."
    )
    reason: str | None = Field(None, description="Why it was left out, for people.")
    seen: float | None = Field(description="The part with colours of the video, 0 to 1.")
    mirrored: float | None = Field(description="The part with those of the other side.")
    filled: float | None = Field(description="The part with those around it.")


class Tried(BaseModel):
    """One of several first shapes."""

    seed: int
    outline: float = Field(description="IoU of its outline with the first frame's, 0 to 1.")
    anchor: str = Field(description="Address of its .glb.")
    chosen: bool = Field(description="True for the one that was set in motion.")


class JobBody(BaseModel):
    """A job. Which keys are there follows from `status`; ignore those that you do not know."""

    job_id: str
    status: Status
    mode: Mode
    pipeline: str
    options: Options
    created_at: str
    input: Input  # type: ignore[valid-type]
    started_at: str | None = None
    retry_of: str | None = None
    queue_position: int | None = Field(None, description="0 is next. Only while queued.")
    eta_seconds: float | None = None
    progress: JobProgress | None = None
    attempt: int | None = None
    cancel_requested: bool | None = None
    ready: list[str] | None = Field(
        None, description="While running: the files that can be downloaded already."
    )
    preview_mesh: str | None = Field(None, description="The shape, before the motion is done.")
    outputs: Outputs | None = Field(None, description="Only when finished.")
    files: list[File] | None = None
    mesh: dict[str, Any] | None = None
    source: dict[str, Any] | None = None
    subject: FoundSubject | None = None
    view: FoundView | None = Field(None, description="Missing if it is not known.")
    score: ScoreBody | None = Field(None, description="Missing without a `view`.")
    texture: TextureBody | None = None
    tries: list[Tried] | None = Field(None, description="Only where `tries` is more than 1.")
    timings: dict[str, float] | None = Field(None, description="Seconds per stage.")
    warnings: list[Warning_] | None = None
    error: str | None = None
    error_code: str | None = None
    error_hint: str | None = None
    retryable: bool | None = None
    finished_at: str | None = None
    expires_at: str | None = None


class ShortProgress(BaseModel):
    percent: float
    stage: str


class ListedJob(BaseModel):
    job_id: str
    status: Status
    mode: Mode
    pipeline: str
    created_at: str
    filename: str | None
    finished_at: str | None = None
    progress: ShortProgress | None = None


class JobList(BaseModel):
    """One page, newest first. `next_cursor` is None on the last."""

    jobs: list[ListedJob]
    next_cursor: str | None


class Cancelled(BaseModel):
    job_id: str
    status: Status
    cancel_requested: bool | None = None


class Deleted(BaseModel):
    status: Literal["deleted"]
    job_id: str


class Problem(BaseModel):
    """RFC 9457. The numbers behind `detail` are further members, by name."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None = None
    request_id: str
