"""RunPod serverless: one RunPod job is one Task for the LocalExecutor, run by child/recipe.py.

`python -m deploy.runpod_handler` is the start command of the endpoint; with `--rp_serve_api` it is
RunPod's local test server. It has no HTTP API, no queue and no JOBS_DIR: RunPod provides these. On
a RunPod pod, and on any other machine, run `python main.py` instead.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import runpod
from runpod.serverless.utils import rp_upload

from api.modes import parse_options
from errors import (
    BothInputs,
    Cancelled,
    InputCrashesPipeline,
    InvalidParameter,
    MissingInput,
    ServiceError,
    WorkerCrashed,
)
from executors.base import ExecutorOptions, run_to_end
from executors.local import LocalExecutor
from gpus import find_gpus
from intake.inspect import inspect
from intake.url_guard import fetch
from job import appearance_step, logs
from job.options import REQUEST_FIELDS, JobOptions, check_names
from job.task import MAX_ATTEMPTS, ChildConfig, Failed, Progress, Result, Stopped, Task
from pipeline import Gpu, PipelineChoice, child_memory_mb, choose_pipeline
from settings import Settings
from worker.attempt import MAX_CRASHES

RESULT_LIMIT_BYTES = 10_000_000
"""RunPod's limit for the result of /run. /runsync has 20 MB, but which was called is unknown."""
ENVELOPE_BYTES = 100_000
"""Reserved for the parts of a result that are not files."""
REPORT_EVERY_S = 1.0
"""For each progress update RunPod's client starts a thread and sends an HTTP request."""
FETCH_S = 300.0
BUCKET = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY")
MAIN_FILES = ("animated_mesh.glb", "preview.mp4", "meshes.zip")
OPTIONS = tuple(name for name in REQUEST_FIELDS if name != "webhook_url")
FIELDS = (*OPTIONS, "video_base64", "files")

ReportProgress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Request:
    """The checked `input` of a RunPod job. `files` are the names of the files to return."""

    options: JobOptions
    video: bytes | None
    files: tuple[str, ...]


class Handler:
    """Runs RunPod's jobs one after another; the pipeline stays loaded between them."""

    def __init__(self, settings: Settings, choice: PipelineChoice, gpu: Gpu | None = None) -> None:
        self._settings = settings
        self._choice = choice
        child = ChildConfig(
            choice.name,
            settings.log_format,
            memory_mb=child_memory_mb(choice.name, settings.child_memory_gb),
            uses_cuda=choice.may_use_cuda,
            cores=settings.child_cores,
            task_s=settings.job_timeout,
            blender_path=str(settings.blender_path or ""),
            environment=settings.child_environment(),
        )
        self._executor = LocalExecutor(ExecutorOptions(child, settings.job_timeout, gpus=(gpu,)))
        # always the same thread: the child ends when the thread that started it ends
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")

    def load(self) -> None:
        """Start to load the pipeline before the first job."""
        self._thread.submit(self._executor.start)

    async def __call__(self, job: dict[str, Any]) -> dict[str, Any]:
        """The result that RunPod returns; `error` is one line about what failed."""
        folder = Path(tempfile.mkdtemp(prefix="job-"))
        try:
            request = parse_request(job.get("input"), self._choice)
            task = await self._accept(request, folder)
            result = await self._run(task, _progress_reporter(job))
            task = replace(task, attempt=result.extra["attempt"])
            return await asyncio.to_thread(packed, result, task.workspace, request.files)
        except ServiceError as error:
            return _refusal(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _accept(self, request: Request, folder: Path) -> Task:
        """Save the video in `folder` and probe it. Raises ServiceError."""
        o, video = request.options, folder / "input"
        if request.video is not None:
            video.write_bytes(request.video)
        else:
            await fetch(
                o.video_url or "",
                video,
                limit=self._settings.max_upload_size,
                total_s=FETCH_S,
                allow_private=self._settings.allow_private_urls,
            )
        facts = await asyncio.to_thread(inspect, video, o.frame_request(self._choice.name))
        return Task(folder.name, 1, folder, facts.container, o)

    async def _run(self, task: Task, report: ReportProgress) -> Result:
        """Raises ServiceError; a job that RunPod cancels is cancelled here too."""
        cancelled = threading.Event()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._attempts, task, report, cancelled)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            cancelled.set()
            self._executor.wake()
            await asyncio.wait([running])  # the child must be free for the next job
            running.exception()
            raise

    def _attempts(self, task: Task, report: ReportProgress, cancelled: threading.Event) -> Result:
        def on_progress(progress: Progress) -> None:
            about = {**vars(progress), "percent": round(100 * progress.fraction, 1)}
            del about["ready"]  # RunPod serves no files of a running job
            report(about)

        crashes = 0
        for attempt in range(1, MAX_ATTEMPTS + 1):
            next_attempt = replace(task, attempt=attempt)
            outcome = run_to_end(self._executor, next_attempt, on_progress, cancelled.is_set)
            if isinstance(outcome, Result):
                return replace(outcome, extra={**outcome.extra, "attempt": attempt})
            if isinstance(outcome, Failed):
                raise outcome.error
            if isinstance(outcome, Stopped):
                raise Cancelled
            crashed = outcome.crash and not appearance_step.was_lost_in_it(next_attempt)
            reason, crashes = outcome.reason, crashes + bool(crashed)
            if crashed and crashes >= MAX_CRASHES:
                raise InputCrashesPipeline(
                    f"This input crashes the pipeline: {crashes} attempts ended by a crash "
                    f"({outcome.crash})."
                )
        raise WorkerCrashed(f"The job's process ended {MAX_ATTEMPTS} times: {reason}")


def parse_request(given: object, choice: PipelineChoice) -> Request:
    """Parse the fields of POST /jobs, plus `video_base64` and `files`. Raises ServiceError."""
    if not isinstance(given, dict):
        raise MissingInput("The job's `input` must be an object.")
    check_names(given, FIELDS)
    options = parse_options({name: given.get(name) for name in OPTIONS}, choice)
    encoded = given.get("video_base64")
    if encoded and options.video_url:
        raise BothInputs("Both `video_base64` and `video_url` are given.")
    if not encoded and not options.video_url:
        raise MissingInput("The job has no video.", hint="Give `video_url` or `video_base64`.")
    return Request(options, _decoded(encoded) if encoded else None, _names(given.get("files")))


def packed(result: Result, folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """The result with its files: as URLs if a bucket is set, else in base64.

    Raises InvalidParameter for files that do not exist, with the job's warnings as the hint: they
    say why; and for files that are too large together.
    """
    known = {file.name: file for file in result.files}
    if unknown := [name for name in names if name not in known]:
        raise InvalidParameter(
            f"The job made no file {unknown[0]}.",
            hint=" ".join(warning["message"] for warning in result.warnings) or None,
            field="files",
            files=", ".join(known),
        )
    files = [known[name] for name in names or MAIN_FILES if name in known]
    if not _has_bucket():
        _check_size(sum(4 * ((file.bytes + 2) // 3) for file in files), names)
    return {
        "files": [
            {"name": file.name, "bytes": file.bytes, "sha256": file.sha256}
            | _content(folder / file.name)
            for file in files
        ],
        "mesh": result.mesh,
        "subject": result.subject,
        "view": result.view,
        "score": result.score,
        "texture": result.texture,
        "tries": list(result.tries),
        "timings": result.timings,
        "warnings": list(result.warnings),
    }


def _has_bucket() -> bool:
    return all(os.environ.get(name) for name in BUCKET)


def _check_size(size: int, names: tuple[str, ...]) -> None:
    if size + ENVELOPE_BYTES > RESULT_LIMIT_BYTES:
        raise InvalidParameter(
            f"The files {', '.join(names or MAIN_FILES)} make a result of {size} bytes; RunPod "
            f"takes {RESULT_LIMIT_BYTES}.",
            hint="Ask for fewer with `files`, or set on the endpoint, to get URLs: "
            f"{', '.join(BUCKET)} (and BUCKET_NAME).",
        )


def _content(path: Path) -> dict[str, str]:
    if not _has_bucket():
        return {"base64": base64.b64encode(path.read_bytes()).decode()}
    url = rp_upload.upload_file_to_bucket(
        path.name,
        str(path),
        bucket_name=os.environ.get("BUCKET_NAME"),
        prefix=f"actionmesh/{path.parent.parent.name}",
    )
    return {"url": url}


def _decoded(encoded: object) -> bytes:
    try:
        return base64.b64decode(str(encoded).encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidParameter(
            "video_base64 must be the video's bytes in base64.", field="video_base64"
        ) from None


def _names(given: object) -> tuple[str, ...]:
    if given is None:
        return ()
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise InvalidParameter(
            f"files must be a list of names, not {json.dumps(given)[:80]}.", field="files"
        )
    return tuple(dict.fromkeys(given))


def _refusal(error: ServiceError) -> dict[str, Any]:
    """RunPod stores `error` as text and shows it in the job's status."""
    return {
        "error": " ".join(part for part in (f"{error.code}:", error.message, error.hint) if part)
    }


def _progress_reporter(job: dict[str, Any]) -> ReportProgress:
    """Report progress to RunPod at most once a second, but a new stage immediately."""
    last: dict[str, Any] = {"at": 0.0, "stage": ""}

    def report(progress: dict[str, Any]) -> None:
        now = time.monotonic()
        if progress["stage"] != last["stage"] or now - last["at"] >= REPORT_EVERY_S:
            last.update(at=now, stage=progress["stage"])
            runpod.serverless.progress_update(job, progress)

    return report


def main() -> None:
    """Run RunPod's jobs until RunPod ends this process."""
    settings = Settings.from_environment(os.environ)
    logs.configure(settings.log_format)
    gpu = next(iter(find_gpus(os.environ)), None)
    handler = Handler(settings, choose_pipeline(settings.pipeline, gpu), gpu)
    handler.load()

    async def handle(job: dict[str, Any]) -> dict[str, Any]:
        return await handler(job)  # RunPod checks that it is a coroutine function

    runpod.serverless.start({"handler": handle})


if __name__ == "__main__":
    main()
