"""A job as its owner sees it: the body of GET /jobs/{id}, of each event, and of the list.

Nothing internal is shown: no paths, no tracebacks, no query of a video_url (it may hold a token).
Clients must ignore keys that they do not know.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import OrderedDict
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from api.responses import as_json, utc
from api.schemas import CLIP_FACTS, NOT_SHOWN, JobBody, ListedJob
from job.options import JobOptions
from job.state import Job, JobStatus
from job.task import ANCHOR, MASKS, SUBJECT, Progress, Result
from settings import Settings
from worker.loop import Worker
from worker.retention import expires_at

ARCHIVE = "meshes.zip"
_FRAME = re.compile(r"mesh_\d+\.glb")
_NAMED = {
    "animated_mesh": "animated_mesh.glb",
    "preview_video": "preview.mp4",
    "archive": ARCHIVE,
    "poster": "poster.webp",
    "source_video": "source.mp4",
    "subject": SUBJECT,
    "masks": MASKS,
    **{suffix: f"animated_mesh.{suffix}" for suffix in ("fbx", "abc", "usdz", "npz")},
    "skinned_mesh": "skinned_mesh.glb",
    "compact_mesh": "compact_mesh.glb",
    **{f"skinned_{suffix}": f"skinned_mesh.{suffix}" for suffix in ("fbx", "usdz")},
}
_ABC_TEXTURE = re.compile(r"animated_mesh_texture\.(jpg|png)")
_ALWAYS = ("animated_mesh", "preview_video")
"""Keys that are shown even if their files do not exist."""
_IF_ASKED_FOR = {"skinned": "skinned_mesh", "compact": "compact_mesh"}
"""By format: keys that are then shown, too."""

_OPTIONAL = ("subject", "view", "score", "texture")
"""Parts of a result that not every job has."""

CACHED_BODIES = 128

_NOT_YET = Progress("loading", 0, 0, 0.0)


class JobView:
    """Writes bodies; keeps those of ended jobs, which do not change."""

    def __init__(self, settings: Settings, worker: Worker) -> None:
        self._settings = settings
        self._worker = worker
        self._boot = uuid4().hex[:8]
        self._bodies: OrderedDict[str, tuple[Job, bytes, dict[str, str]]] = OrderedDict()

    def body(self, job: Job) -> tuple[bytes, dict[str, str]]:
        """The JSON of the whole body, and the headers of a reply that sends it."""
        if not job.status.is_terminal:
            left_s = self._worker.eta_s(job)
            body = self._job_body(job, left_s)
            position = "" if body.queue_position is None else body.queue_position
            headers = _headers(f"{self._boot}.{job.revision}.{position}")
            return as_json(body), {**headers, "Retry-After": poll_after(left_s)}
        known = self._bodies.get(job.job_id)
        if known is None or known[0] is not job:
            content = as_json(self._job_body(job, None))
            known = job, content, _headers(hashlib.sha256(content).hexdigest()[:24])
            self._bodies[job.job_id] = known
            while len(self._bodies) > CACHED_BODIES:
                self._bodies.popitem(last=False)
        return known[1], known[2]

    def _job_body(self, job: Job, left_s: float | None) -> JobBody:
        about = {**_head(job), "options": _options(job.options), "input": _input(job)}
        if job.started_at is not None:
            about["started_at"] = utc(job.started_at)
        if job.retry_of is not None:
            about["retry_of"] = job.retry_of
        if job.status.is_terminal or job.warnings:
            about["warnings"] = job.warnings
        if job.status is JobStatus.QUEUED:
            about.update(self._queued(job, left_s))
        elif job.status is JobStatus.RUNNING:
            about.update(self._running(job, left_s))
        else:
            about.update(self._ended(job))
        return JobBody(**about)

    def list_entry(self, job: Job) -> ListedJob:
        about = {**_head(job), "filename": job.input.filename if job.input else None}
        if job.finished_at is not None:
            about["finished_at"] = utc(job.finished_at)
        if job.progress is not None:
            shown = _progress(job.progress, None)
            about["progress"] = {"percent": shown["percent"], "stage": shown["stage"]}
        return ListedJob(**about)

    def _queued(self, job: Job, left_s: float | None) -> dict[str, Any]:
        position = self._worker.queue.position(job.job_id)
        about: dict[str, Any] = {"queue_position": position, "eta_seconds": _eta(left_s)}
        if job.progress is not None:  # its video_url is being fetched
            about["progress"] = _progress(job.progress, left_s)
        return about

    def _running(self, job: Job, left_s: float | None) -> dict[str, Any]:
        progress = _progress(job.progress or _NOT_YET, left_s)
        ready = job.progress.ready if job.progress else ()
        about: dict[str, Any] = {"progress": progress, "ready": ready, "attempt": job.attempts}
        if job.cancel_requested:
            about["cancel_requested"] = True
        if ANCHOR in ready:
            about["preview_mesh"] = self._url(job.job_id, ANCHOR)
        return about

    def _ended(self, job: Job) -> dict[str, Any]:
        assert job.finished_at is not None
        started = job.started_at or job.finished_at
        timings = job.result.timings if job.result else {}
        about: dict[str, Any] = {
            "timings": {  # in seconds: waited, in each stage, and from start to end
                "queued": round((started - job.created_at).total_seconds(), 3),
                **{stage: round(seconds, 3) for stage, seconds in timings.items()},
                "total": round((job.finished_at - started).total_seconds(), 3),
            },
            "finished_at": utc(job.finished_at),
            "expires_at": utc(expires_at(job.finished_at, self._settings)),
        }
        if job.result is not None:
            about.update(self._outputs(job, job.result), attempt=job.attempts)
        if job.error is not None:
            about.update(
                error=job.error.get("message", ""),
                error_code=job.error.get("code", ""),
                error_hint=job.error.get("hint", ""),
                retryable=job.error.get("retryable", False),
            )
        return about

    def _outputs(self, job: Job, result: Result) -> dict[str, Any]:
        urls = {file.name: self._url(job.job_id, file.name) for file in result.files}
        frames = sorted(name for name in urls if _FRAME.fullmatch(name))
        asked = (_IF_ASKED_FOR.get(format_) for format_ in job.options.formats)
        shown = {*_ALWAYS, *asked}
        named = {
            key: urls.get(name) for key, name in _NAMED.items() if name in urls or key in shown
        }
        for name in filter(_ABC_TEXTURE.fullmatch, urls):
            named["abc_texture"] = urls[name]
        return {
            "outputs": {"per_frame_meshes": [urls[name] for name in frames], **named},
            "files": [vars(file) for file in result.files],
            "mesh": result.mesh,
            "source": result.source,
            **{name: getattr(result, name) for name in _OPTIONAL if getattr(result, name)},
            **({"tries": self._tries(job.job_id, result)} if result.tries else {}),
        }

    def _tries(self, job_id: str, result: Result) -> list[dict[str, Any]]:
        return [{**known, "anchor": self._url(job_id, known["anchor"])} for known in result.tries]

    def _url(self, job_id: str, name: str) -> str:
        return f"{self._settings.root_path}/outputs/{job_id}/{name}"


def poll_after(left_s: float | None) -> str:
    """Retry-After for a job that has not ended: seconds until the next poll is useful."""
    return "2" if left_s is None else str(min(10, max(1, math.ceil(left_s / 10))))


def _headers(version: str) -> dict[str, str]:
    return {"ETag": f'W/"{version}"', "Cache-Control": "private, no-cache"}


def _head(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "status": job.status.value,
        "mode": job.options.mode,
        "pipeline": job.pipeline,
        "created_at": utc(job.created_at),
    }


def _progress(progress: Progress, left_s: float | None) -> dict[str, Any]:
    return {
        "percent": round(100.0 * min(1.0, max(0.0, progress.fraction)), 1),
        "stage": progress.stage,
        "step": progress.step,
        "steps": progress.steps,
        "message": progress.message,
        "eta_seconds": _eta(left_s),
    }


def _eta(left_s: float | None) -> float | None:
    return None if left_s is None else round(left_s, 1)


@lru_cache(128)  # they stay the same while a job is polled
def _options(options: JobOptions) -> dict[str, Any]:
    shown = options.model_dump(mode="json", exclude=NOT_SHOWN)
    url = shown.pop("video_url")
    if url is not None:
        shown["video_url"] = _without_query(url)
    if not options.mesh:
        del shown["mesh"]
    return shown


def _without_query(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def _input(job: Job) -> dict[str, Any]:
    """What is known of the video; all None while it is still being fetched."""
    clip = {name: getattr(job.input, name, None) for name in CLIP_FACTS}
    return {**clip, "seed": job.options.seed}
