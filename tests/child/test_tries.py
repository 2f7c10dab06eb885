"""Several tries of a shape in a job: their files, their scores, and the job's progress."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from child.pipelines import build_pipeline
from child.recipe import Recipe
from child.reporter import JobReporter
from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.options import MAX_TRIES
from job.task import ANCHOR, TRIED, ChildConfig, Result, Task
from settings import Settings
from tests.api.bodies import ended, frames_zip, send
from tests.child.test_subject_files import walking_square
from tests.executors.blocking_blender import BlockingBlender
from tests.job_factory import OPTIONS, with_options
from tests.servers import thread_server
from tests.waiting import wait_until

PIPELINE = "tests.pipelines:MakesManyBoxes"
SHARES = {"background": 0.1, "shape": 0.3, "motion": 0.4, "decoding": 0.2}


@pytest.fixture
def task(tmp_path: Path) -> Task:
    (tmp_path / "input").write_bytes(frames_zip())
    return with_options(Task("a", 1, tmp_path, "zip", OPTIONS), tries=3, seed=2**32 - 2)


def expected(address: str = "") -> list[dict[str, Any]]:
    """Of three tries, the second of which fits best; the seed after the largest is 0."""
    seeds, outlines = (2**32 - 2, 2**32 - 1, 0), (0.65, 0.9, 0.65)
    return [
        {"seed": seed, "outline": outline, "anchor": f"{address}{name}", "chosen": k == 1}
        for k, (seed, outline, name) in enumerate(zip(seeds, outlines, TRIED, strict=False))
    ]


def extras(path: Path) -> dict[str, Any]:
    """What a GLB says of the job that made it."""
    content = path.read_bytes()
    document = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    found: dict[str, Any] = document["asset"]["extras"]
    return found


def test_the_tries_are_in_the_result_and_in_that_of_a_checkpoint(task: Task) -> None:
    recipe = Recipe(build_pipeline(PIPELINE), lambda *_, **__: None, threading.Event())
    recipe.compute(task)
    second = replace(task, attempt=2)
    for attempt, result in (
        (second, recipe.run(second)),
        (replace(task, attempt=3), replace(recipe, pipeline=None).export(replace(task, attempt=3))),
    ):
        assert result.tries == tuple(expected())
        assert Result.from_dict(json.loads(json.dumps(result.to_dict()))).tries == result.tries
        assert {ANCHOR, *TRIED[:3]} <= {file.name for file in result.files}
        sizes = {(attempt.workspace / name).read_bytes() for name in TRIED[:3]}
        assert len(sizes) == 3
        assert extras(attempt.workspace / "animated_mesh.glb")["seed"] == 2**32 - 1


def test_a_seed_that_is_tried_again_keeps_the_name_of_its_file(task: Task) -> None:
    """As after a lack of memory, when the whole attempt is repeated."""
    task.workspace.mkdir()
    reporter = JobReporter(task, "tests", SHARES, lambda *_, **__: None, threading.Event())
    pipeline: Any = build_pipeline(PIPELINE)
    for _ in range(2):
        pipeline.animate(walking_square(64, 64), "fast", 2**32 - 2, reporter, tries=3)
    assert reporter.tries == expected() and len(reporter.ready) == 4


def test_the_shape_takes_more_of_the_progress_with_more_tries(task: Task) -> None:
    task.workspace.mkdir()
    fractions = {}
    for tries in (1, MAX_TRIES):
        sent: list[dict[str, Any]] = []
        reporter = JobReporter(
            with_options(task, tries=tries),
            "actionmesh",
            SHARES,
            lambda _, sent=sent, **about: sent.append(about),
            threading.Event(),
        )
        for stage in (*SHARES, "exporting"):
            reporter.progress(stage, 0, 1)
        fractions[tries] = {about["stage"]: about["fraction"] for about in sent}
    one, many = fractions[1], fractions[MAX_TRIES]
    assert one["exporting"] == pytest.approx(many["exporting"])  # another process goes on there
    shape, of_one = many["motion"] - many["shape"], one["motion"] - one["shape"]
    rest, of_it = many["decoding"] - many["motion"], one["decoding"] - one["motion"]
    assert shape / rest == pytest.approx(MAX_TRIES * of_one / of_it)


def test_the_shape_takes_less_of_the_progress_with_more_frames(task: Task) -> None:
    task.workspace.mkdir()
    sent: list[dict[str, Any]] = []
    reporter = JobReporter(
        with_options(task, tries=1),
        "actionmesh",
        SHARES,
        lambda _, **about: sent.append(about),
        threading.Event(),
    )
    reporter.progress("extracting", 1, 1)
    reporter.frames_read(121)
    for stage in (*SHARES, "exporting"):
        reporter.progress(stage, 0, 1)
    begins = {about["stage"]: about["fraction"] for about in sent}
    shape, motion = begins["motion"] - begins["shape"], begins["decoding"] - begins["motion"]
    assert motion / shape == pytest.approx(SHARES["motion"] / SHARES["shape"] * 121 / 16)
    fractions = [about["fraction"] for about in sent]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(0.88)


def test_anchors_can_be_downloaded_while_the_job_runs_and_afterwards(tmp_path: Path) -> None:
    blender = BlockingBlender(tmp_path)
    child = ChildConfig(PIPELINE, blender_path=blender.program)
    executor = LocalExecutor(ExecutorOptions(child))
    settings = Settings(pipeline=PIPELINE, min_free_gb=0, jobs_dir=tmp_path / "jobs")
    with (
        thread_server(tmp_path / "jobs", executor, settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        fields = {"blender_export": "true", "tries": "3", "seed": str(2**32 - 2)}
        job_id = send(client, fields=fields).json()["job_id"]
        wait_until(blender.count)
        job = client.get(f"/jobs/{job_id}").json()
        assert job["status"] == "running" and {*TRIED[:3], ANCHOR} <= set(job["ready"])
        early = {name: client.get(f"/outputs/{job_id}/{name}").content for name in TRIED[:3]}
        blender.release()
        finished = ended(client, job_id)
        assert finished["tries"] == expected(f"/outputs/{job_id}/")
        for tried in finished["tries"]:
            content = client.get(tried["anchor"]).content
            assert content == early[tried["anchor"].rpartition("/")[2]]
