"""A job as its owner sees it: the body of GET /jobs/{id}, of each event, and of the list.

Nothing internal is shown: no paths, no tracebacks, no query of a video_url (it may hold a token).
Clients must ignore keys that they do not know.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from api.responses import as_json, utc
from api.schemas import CLIP_FACTS_SHOWN, NOT_SHOWN, JobBody, ListedJob
from job.state import Job, JobStatus
from job.task import Progress, Result
from settings import Settings
from worker.loop import Worker
from worker.retention import expires_at

ANCHOR = "anchor.glb"
ARCHIVE = "meshes.zip"
_FRAME = re.compile(r"mesh_\d+\.glb")
_NAMED = {
    "animated_mesh": "animated_mesh.glb",
    "preview_video": "preview.mp4",
    "archive": ARCHIVE,
    "poster": "poster.webp",
    "source_video": "source.mp4",
    **{suffix: f"animated_mesh.{suffix}" for suffix in ("fbx", "abc", "usdz", "npz")},
}
_ALWAYS = ("animated_mesh", "preview_video")
"""Keys that are shown even if their files do not exist."""

CACHED_BODIES = 128

_NOT_YET = Progress("loading", 0, 0, 0.0)


class JobView:
    """Writes bodies; keeps those of ended jobs, which do not change."""

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self._settings = settings
        self._worker = worker
        self._boot = uuid4().hex[:8]
        self._bodies: OrderedDict[str, tuple[Job, bytes, str]] = OrderedDict()

    def body(self, job: Job) -> tuple[bytes, str]:
        """The JSON of the whole body, and its weak ETag."""
        if not job.status.is_terminal:
            position = self._worker.queue.position(job.job_id)
            tag = f'W/"{self._boot}.{job.revision}.{"" if position is None else position}"'
            return as_json(self.job_body(job)), tag
        known = self._bodies.get(job.job_id)
        if known is None or known[0] is not job:
            body = as_json(self.job_body(job))
            known = job, body, f'W/"{hashlib.sha256(body).hexdigest()[:24]}"'
            self._bodies[job.job_id] = known
            while len(self._bodies) > CACHED_BODIES:
                self._bodies.popitem(last=False)
        return known[1], known[2]

    def job_body(self, job: Job) -> JobBody:
        about = {**_head(job), "options": _options(job), "input": _input(job)}
        if job.started_at is not None:
            about["started_at"] = utc(job.started_at)
        if job.retry_of is not None:
            about["retry_of"] = job.retry_of
        about.update(self._by_status(job))
        if job.status.is_terminal or job.warnings:
            about["warnings"] = job.warnings
        return JobBody(**about)

    def list_entry(self, job: Job) -> ListedJob:
        about = {**_head(job), "filename": job.input.filename if job.input else None}
        if job.finished_at is not None:
            about["finished_at"] = utc(job.finished_at)
        if job.progress is not None:
            about["progress"] = {
                "percent": _percent(job.progress.fraction),
                "stage": job.progress.stage,
            }
        return ListedJob(**about)

    def _by_status(self, job: Job) -> dict[str, Any]:
        if job.status is JobStatus.QUEUED:
            return self._queued(job)
        if job.status is JobStatus.RUNNING:
            return self._running(job)
        ended: dict[str, Any] = {}
        if job.status is JobStatus.FINISHED and job.result is not None:
            ended.update(self._outputs(job.job_id, job.result), attempt=job.attempts)
        if job.error is not None:
            ended.update(
                error=str(job.error.get("message", "")),
                error_code=str(job.error.get("code", "")),
                error_hint=str(job.error.get("hint", "")),
                retryable=bool(job.error.get("retryable", False)),
            )
        assert job.finished_at is not None
        ended["timings"] = _timings(job, job.finished_at)
        ended["finished_at"] = utc(job.finished_at)
        ended["expires_at"] = utc(expires_at(job.finished_at, self._settings))
        return ended

    def _queued(self, job: Job) -> dict[str, Any]:
        position = self._worker.queue.position(job.job_id)
        about: dict[str, Any] = {"queue_position": position}
        if job.progress is not None:  # its video_url is being fetched
            about["progress"] = self._progress(job)
        return {**about, "eta_seconds": self._eta(job)}

    def _running(self, job: Job) -> dict[str, Any]:
        about: dict[str, Any] = {"progress": self._progress(job), "attempt": job.attempts}
        if job.cancel_requested:
            about["cancel_requested"] = True
        if job.progress is not None and job.progress.has_anchor:
            about["preview_mesh"] = self._url(job.job_id, ANCHOR)
        return about

    def _progress(self, job: Job) -> dict[str, Any]:
        progress = job.progress or _NOT_YET
        return {
            "percent": _percent(progress.fraction),
            "stage": progress.stage,
            "step": progress.step,
            "steps": progress.steps,
            "message": progress.message,
            "eta_seconds": self._eta(job),
        }

    def _eta(self, job: Job) -> float | None:
        seconds = self._worker.eta_s(job)
        return None if seconds is None else round(seconds, 1)

    def _outputs(self, job_id: str, result: Result) -> dict[str, Any]:
        urls = {file.name: self._url(job_id, file.name) for file in result.files}
        frames = sorted(name for name in urls if _FRAME.fullmatch(name))
        named = {
            key: urls.get(name) for key, name in _NAMED.items() if name in urls or key in _ALWAYS
        }
        return {
            "outputs": {"per_frame_meshes": [urls[name] for name in frames], **named},
            "files": [vars(file) for file in result.files],
            "mesh": result.mesh,
            "source": result.source,
        }

    def _url(self, job_id: str, name: str) -> str:
        return f"{self._settings.root_path}/outputs/{job_id}/{name}"


def _head(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "status": job.status.value,
        "mode": job.options.mode,
        "pipeline": job.pipeline,
        "created_at": utc(job.created_at),
    }


def _percent(fraction: float) -> float:
    return round(100.0 * min(1.0, max(0.0, fraction)), 1)


def _options(job: Job) -> dict[str, Any]:
    shown = job.options.model_dump(mode="json", exclude=NOT_SHOWN)
    url = shown.pop("video_url")
    if url is not None:
        shown["video_url"] = _without_query(url)
    if not job.options.mesh:
        del shown["mesh"]
    return shown


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _input(job: Job) -> dict[str, Any]:
    """What is known of the video; all None while it is still being fetched."""
    clip = {name: getattr(job.input, name, None) for name in CLIP_FACTS_SHOWN}
    return {**clip, "seed": job.options.seed}


def _timings(job: Job, finished_at: datetime) -> dict[str, float]:
    """Seconds waited, in each stage, and from start to end."""
    started = job.started_at or finished_at
    return {
        "queued": round((started - job.created_at).total_seconds(), 3),
        **({k: round(v, 3) for k, v in job.result.timings.items()} if job.result else {}),
        "total": round((finished_at - started).total_seconds(), 3),
    }
