"""The checkpoint of a job: its meshes, and what was reported and written before them.

It lies beside the attempts, so that the meshes are not lost if an export fails, and another process
can export them while this one computes the next job's. Called by recipe.py.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

from child.reporter import JobReporter
from job import durable
from job.task import Task
from meshes.sequence import MeshSequence


class NoCheckpoint(Exception):
    """There is no checkpoint that can be read; a damaged one was deleted."""


def save_checkpoint(meshes: MeshSequence, reporter: JobReporter) -> None:
    """Write the checkpoint's folder; one rename makes it visible, complete."""
    part = reporter.task.workspace / "checkpoint"
    part.mkdir()
    meshes.save(part / "meshes.npz")
    for name in reporter.ready:
        durable.fsync_file(reporter.task.workspace / name)
        durable.link(reporter.task.workspace / name, part / name)
    reporter.update_timings(time.monotonic())
    made = {
        "pipeline": reporter.pipeline,
        "start": reporter.start,
        "ready": reporter.ready,
        "subject": reporter.found_subject,
        "seed": reporter.seed,
        "tries": reporter.tries,
        "warnings": reporter.warnings,
        "timings": reporter.timings,
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    (part / "made.json").write_text(json.dumps(made))
    os.rename(part, reporter.task.checkpoint)


def load_checkpoint(task: Task) -> tuple[MeshSequence, dict[str, Any]]:
    """The meshes and the facts stored with them. Raises NoCheckpoint."""
    try:
        meshes = MeshSequence.load(task.checkpoint / "meshes.npz")
        found = json.loads((task.checkpoint / "made.json").read_text())
        made: dict[str, Any] = {  # earlier versions had none of these
            "start": task.options.start,
            "ready": [],
            "subject": {},
            "seed": task.options.seed,
            "tries": [],
            **found,
        }
        for name in made["ready"]:
            (task.checkpoint / name).stat()
        return meshes, made
    except (OSError, ValueError) as exc:
        shutil.rmtree(task.checkpoint, ignore_errors=True)
        raise NoCheckpoint from exc


def restore_reports(made: Mapping[str, Any], reporter: JobReporter) -> None:
    """What is known of the frames, timings, and the files that were there before the meshes."""
    reporter.start = made["start"]
    for warning in made["warnings"]:
        reporter.warning(**warning)
    reporter.timings.update(made["timings"])
    reporter.found_subject = made["subject"]
    reporter.seed, reporter.tries = made["seed"], made["tries"]
    for name in made["ready"]:
        if not (reporter.task.workspace / name).exists():  # those of an earlier attempt
            durable.link(reporter.task.checkpoint / name, reporter.task.workspace / name)
    reporter.written(*made["ready"])


def peak_rss_mb() -> float:
    """Of this process until now."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
