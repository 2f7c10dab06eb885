"""What the recipe of a job passes to its pipeline; the files that it writes are in test_exports."""

from __future__ import annotations

import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest

from child.pipelines import build_pipeline
from child.recipe import FramePrefetcher, Recipe
from errors import ModeUnavailable
from executors.base import ExecutorOptions, run_to_end
from executors.local import LocalExecutor
from job.task import ChildConfig, Result, Task
from tests.api.bodies import frames_zip
from tests.job_factory import OPTIONS, with_options

DEMO_CLIP = Path(__file__).resolve().parents[2] / "examples" / "dancing_sprout.mp4"


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


@pytest.mark.slow
def test_several_cores_make_the_same_files(tmp_path: Path) -> None:
    """On a plain background: the net, the tracker, masks, textures, meshes and the preview."""
    made = []
    for cores in (1, 3):
        folder = tmp_path / str(cores)
        folder.mkdir()
        shutil.copy(DEMO_CLIP, folder / "input")
        task = with_options(Task("a", 1, folder, "mov", OPTIONS), mode="fast_low_ram")
        config = ChildConfig("silhouette", cores=cores)
        with closing(LocalExecutor(ExecutorOptions(config))) as executor:
            outcome = run_to_end(executor, task)
        assert isinstance(outcome, Result), outcome
        made.append([(file.name, file.sha256) for file in outcome.files])
    assert made[0] == made[1] and len(made[0]) > 16
