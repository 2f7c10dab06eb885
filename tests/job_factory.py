"""Jobs and results for tests that need any."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from intake.inspect import ClipFacts
from job.folder import JobsFolder
from job.options import JobOptions
from job.state import Job, JobStatus
from job.task import OutputFile, Result, Task
from job_store import JobStore

FACTS = ClipFacts("clip.mp4", 5, "mov", 64, 48, 16.0, 16, 16, 16.0)

OPTIONS = JobOptions(mode="default", max_frames=16)


def with_options(task: Task, **changes: Any) -> Task:
    """The same task with some options changed."""
    return replace(task, options=task.options.model_copy(update=changes))


def job(job_id: str, sequence: int, now: datetime, **changes: Any) -> Job:
    """A queued job with its input."""
    made = Job(
        job_id=job_id,
        sequence=sequence,
        status=JobStatus.QUEUED,
        pipeline="silhouette",
        options=JobOptions(mode="default"),
        created_at=now,
        input=FACTS,
    )
    return made.changed(**changes) if changes else made


def accept(store: JobStore, content: bytes = b"video", **changes: Any) -> Job:
    """Through the store's one commit point, with an input file."""
    staging = store.stage()
    staging.input.write_bytes(content)
    return store.accept(staging, lambda *about: job(*about, **changes))


def result(size: int = 4) -> Result:
    """The result with one small file."""
    return Result(
        files=(OutputFile("mesh_000.glb", size, "0" * 64),),
        mesh={"timesteps": 16, "vertices": 8, "faces": 12, "fps": 16.0},
        source={"width": 64, "height": 48, "frames": 16, "fps": 16.0, "used": list(range(16))},
        timings={"motion": 1.0},
    )


def write_attempt(store: JobStore, job_id: str, attempt: int, size: int = 4) -> None:
    """The file of `result()` in an attempt's workspace."""
    workspace = store.folder.job_dir(job_id) / f"attempt-{attempt}"
    workspace.mkdir()
    (workspace / "mesh_000.glb").write_bytes(b"x" * size)


def finished_jobs(jobs_dir: Path, count: int) -> list[str]:
    """The ids of so many finished jobs, written without fsync: one real one and its copies."""
    store = JobStore(JobsFolder(jobs_dir))
    store.open()
    job_id = accept(store).job_id
    store.start(job_id)
    write_attempt(store, job_id, 1)
    store.folder.publish_outputs(job_id, 1, result())
    store.finish(job_id, result())
    store.close()
    record = json.loads((jobs_dir / job_id / "job.json").read_bytes())
    made = [job_id]
    for sequence in range(1, count):
        copy = {**record, "job_id": str(uuid4()), "sequence": 1000 + sequence}
        (jobs_dir / copy["job_id"] / "outputs").mkdir(parents=True)
        content = json.dumps(copy, separators=(",", ":")) + "\n"
        (jobs_dir / copy["job_id"] / "job.json").write_text(content)
        made.append(copy["job_id"])
    return made
