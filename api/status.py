"""Health, readiness, /info and /metrics. Answered from memory, so that no job delays them."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.app_state import AppState, state_of
from api.metrics import MEDIA_TYPE as METRICS_TYPE
from api.modes import default_mode, is_available
from api.openapi import HEALTH, INFO, METRICS, READY, answers
from api.query import CheckedRoute
from api.responses import JsonResponse
from api.schemas import Health, Info, ModeInfo, Ready, SlotInfo
from errors import InvalidParameter, StorageUnavailable
from intake.container import FORMATS
from job.options import REQUEST_FIELDS
from job.state import JobStatus
from pipeline import ACTIONMESH, MODES, frame_step
from settings import GB, NAME, VERSION
from video.sampling import DEFAULT_FRAMES, MAX_FRAMES, MIN_FRAMES

router = APIRouter(tags=["status"], route_class=CheckedRoute)

_NOT_STORED = {"Cache-Control": "no-store"}
_MODELS = {
    "actionmesh": {
        "name": "facebook/ActionMesh",
        "license": "FAIR Noncommercial Research License v1",
        "notice": "Non-commercial research only. TripoSG and RMBG-1.4, which it uses, have "
        "licences of their own: see docs/THIRD_PARTY.md.",
    },
    "silhouette": {
        "name": "silhouette",
        "license": "Apache-2.0",
        "notice": "Cut out, inflated and tracked on the CPU: the outline is the video's, the depth "
        "is a guess.",
    },
}


@router.get(
    "/health",
    summary="Is the server alive?",
    responses={**HEALTH, **answers(InvalidParameter, keyless=True)},
)
async def health(request: Request) -> Response:
    """503 if the server must be restarted, or until JOBS_DIR is repaired."""
    state = state_of(request)
    if state.draining or (state.worker.is_alive and state.storage.problem is None):
        body = Health(status="healthy", gpu_available=state.choice.gpu is not None)
        return JsonResponse(body, headers=_NOT_STORED)
    return JsonResponse(Health(status="unhealthy", gpu_available=False), 503, _NOT_STORED)


@router.get(
    "/ready",
    summary="Would a job run at once?",
    responses={**READY, **answers(InvalidParameter, keyless=True)},
)
async def ready(request: Request) -> Response:
    """Jobs are accepted even if not ready, unless the server stops or its disk takes none."""
    state = state_of(request)
    missing = await asyncio.to_thread(_missing, state)
    if missing is None:
        return JsonResponse(Ready(ready=True), headers=_NOT_STORED)
    headers = {**_NOT_STORED, "Retry-After": "5"}
    return JsonResponse(Ready(ready=False, **missing), 503, headers)


def _missing(state: AppState) -> dict[str, Any] | None:
    """Why a job would have to wait; None if it would not. Reads the disk."""
    if state.draining:
        return {"reason": "draining"}
    if not state.worker.recovered.is_set():
        return {"reason": "starting"}
    try:
        state.folder.check()
        free = state.folder.free_bytes()
    except (StorageUnavailable, OSError):
        return {"reason": "storage_unavailable"}
    if free < state.settings.min_free_gb * GB:
        return {"reason": "disk_full"}
    status = state.worker.executor.status
    if status.broken is not None:
        return {"reason": "gpu_unavailable"}
    if status.loading is not None:
        return {"reason": "downloading_weights", "progress": status.loading}
    if not status.is_ready and not status.is_unloaded:
        return {"reason": "loading_model"}
    return None


@router.get(
    "/info", summary="What can this server do?", responses={**INFO, **answers(InvalidParameter)}
)
async def info(request: Request) -> Response:
    """Modes, limits and features, for the page and the client."""
    state = state_of(request)
    settings, choice = state.settings, state.choice
    model = _MODELS.get(choice.name, {"name": choice.name, "license": "your own", "notice": ""})
    revision = settings.actionmesh_revision if choice.name == "actionmesh" else None
    live = state.store.live()
    running = sum(job.status is JobStatus.RUNNING for job in live)
    gpu = choice.gpu
    body = {
        "name": NAME,
        "version": VERSION,
        "pipeline": {"name": choice.name, "reason": choice.reason},
        "model": {**model, "revision": revision},
        "gpu": {"name": gpu.name, "memory_gb": gpu.memory_gb} if gpu else None,
        "gpus": [
            SlotInfo(
                index=slot.number,
                name=slot.pipeline.gpu.name,
                memory_gb=slot.pipeline.gpu.memory_gb,
                state=slot.state,
            )
            for slot in state.worker.executor.slot_statuses
            if slot.pipeline.gpu is not None
        ],
        "modes": _modes(state),
        "limits": {
            "max_upload_bytes": settings.max_upload_size,
            "min_frames": MIN_FRAMES,
            "max_frames": MAX_FRAMES,
            "default_frames": DEFAULT_FRAMES,
            "frame_step": frame_step(choice.name),
            "max_queue": settings.max_queue,
            "formats": list(FORMATS),
        },
        "features": _features(state),
        "queue": {"queued": len(live) - running, "running": running},
        "options": REQUEST_FIELDS,
    }
    return JsonResponse(Info.model_validate(body), headers=_NOT_STORED)


@router.get(
    "/metrics",
    summary="Numbers for Prometheus",
    responses={**METRICS, **answers(InvalidParameter)},
    response_class=Response,
)
async def metrics(request: Request) -> Response:
    """Jobs by outcome, their time by stage, what runs now, and free space on the disk."""
    state = state_of(request)
    text = await asyncio.to_thread(
        state.metrics.text, state.receiving, state.worker.executor.slot_statuses
    )
    return Response(text, headers=_NOT_STORED, media_type=METRICS_TYPE)


def _modes(state: AppState) -> list[ModeInfo]:
    choice = state.choice
    best, estimates = default_mode(choice), state.worker.estimates
    return [
        ModeInfo(
            id=mode,
            min_vram_gb=ACTIONMESH[mode].min_vram_gb if choice.name == "actionmesh" else None,
            available=is_available(mode, choice),
            default=mode == best,
            typical_seconds=estimates.typical_s(mode, DEFAULT_FRAMES),
            seconds_per_frame=estimates.frame_s(mode),
        )
        for mode in MODES
    ]


def _features(state: AppState) -> dict[str, bool]:
    settings = state.settings
    return {
        "animated_mesh": True,
        "preview_video": True,
        "blender_export": settings.blender_path is not None,
        "usdz": importlib.util.find_spec("pxr") is not None,
        "npz": True,
        "texture": importlib.util.find_spec("xatlas") is not None,
        "video_url": settings.allow_video_url,
        "mesh_input": state.choice.name == "actionmesh",
        "keeps_input": settings.keep_input,
        "needs_key": bool(settings.api_keys),
    }
