"""What the recipe of a job passes to its pipeline; the files that it writes are in test_exports."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from child.pipelines import build_pipeline
from child.recipe import FramePrefetcher, Recipe
from errors import ModeUnavailable
from job.task import Task
from tests.api.bodies import frames_zip
from tests.job_factory import OPTIONS, with_options


def test_faces_are_refused_by_a_pipeline_without_that_parameter(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(frames_zip())
    task = with_options(Task("a", 1, tmp_path, "zip", OPTIONS), faces=2_000)
    pipeline = build_pipeline("tests.pipelines:Bends")
    with pytest.raises(ModeUnavailable, match="does not choose"):
        Recipe(pipeline, lambda *_, **__: None, threading.Event()).run(task)


def test_tries_are_refused_by_a_pipeline_without_that_parameter(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(frames_zip())
    task = with_options(Task("a", 1, tmp_path, "zip", OPTIONS), tries=2)
    pipeline = build_pipeline("tests.pipelines:Bends")
    with pytest.raises(ModeUnavailable, match="makes one shape only"):
        Recipe(pipeline, lambda *_, **__: None, threading.Event()).run(task)


def test_prefetched_frames_are_those_that_the_pipeline_takes(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(frames_zip(40))
    task = with_options(Task("a", 1, tmp_path, "zip", OPTIONS), max_frames=121)
    prefetcher = FramePrefetcher("actionmesh")
    found = {}
    for pipeline in ("actionmesh", "silhouette"):
        prefetcher.prefetch(task)
        request = task.options.frame_request(pipeline)
        found[pipeline] = prefetcher.take("a", request, lambda: None)
    assert found["actionmesh"] is not None and len(found["actionmesh"][0]) == 31
    assert found["silhouette"] is None
