"""Compares the files in a JOBS_DIR, while nothing runs, with what it may contain. Needs no server.

The fault tests and random_kills.py use the same check: every record can be read, every output
exists once and is complete, nothing is left of attempts, uploads and deletions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from job.folder import is_job_id
from job.state import Job, JobStatus

_EMPTY = (".staging", ".trash", ".quarantine")


def records(jobs_dir: Path) -> dict[str, Job]:
    """Every job that can be read, by its id."""
    found = {}
    for folder in _job_folders(jobs_dir):
        try:
            found[folder.name] = Job.from_dict(json.loads((folder / "job.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def faults(jobs_dir: Path) -> list[str]:
    """What is wrong, one line each; empty if every promise about the files is kept."""
    jobs = records(jobs_dir)
    found = [f"{folder.name}: job.json cannot be read"
             for folder in _job_folders(jobs_dir) if folder.name not in jobs]  # fmt: skip
    for name in _EMPTY:
        found += [f"{name} holds {item.name}" for item in _items(jobs_dir / name)]
    if len({job.sequence for job in jobs.values()}) != len(jobs):
        found.append("two jobs have one sequence number")
    for job_id, job in jobs.items():
        found += [
            f"{job_id} ({job.status.value}): {fault}" for fault in _of(jobs_dir / job_id, job)
        ]
    return found


def _of(folder: Path, job: Job) -> Iterator[str]:
    allowed = {"job.json", "input"}
    if job.status is JobStatus.FINISHED:
        allowed.add("outputs")
    elif not job.status.is_terminal:
        yield "it has not ended"
    for item in _items(folder):
        if item.name not in allowed:
            yield f"{item.name} was left behind"
    if job.status is JobStatus.FINISHED:
        yield from _of_outputs(folder / "outputs", job)


def _of_outputs(outputs: Path, job: Job) -> Iterator[str]:
    assert job.result is not None
    manifest = {file.name: file for file in job.result.files}
    there = {item.name for item in _items(outputs)}
    if there != {*manifest, "result.json"}:
        yield f"outputs differ from the manifest: {sorted(there ^ {*manifest, 'result.json'})}"
    for name in there & set(manifest):
        if hashlib.sha256((outputs / name).read_bytes()).hexdigest() != manifest[name].sha256:
            yield f"{name} is not what the manifest says"


def _job_folders(jobs_dir: Path) -> list[Path]:
    return [item for item in _items(jobs_dir) if is_job_id(item.name)]


def _items(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
