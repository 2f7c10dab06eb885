"""The appearance step of a job: what it finds, what it leaves out and why; it never fails a job.

The animal and its video are synthetic: its colours, outlines and camera are known.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import client as command_line
from child.appearance import Appearance, add_appearance, texture_px
from child.pipelines import build_pipeline
from child.recipe import Recipe
from child.reporter import AFTER, JobReporter
from errors import Cancelled
from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.task import MASKS, ChildConfig, Task
from tests.api.bodies import ended, frames_zip, send
from tests.appearance.animal_video import AZIMUTH, animal, camera, film, packed
from tests.job_factory import OPTIONS, with_options
from tests.servers import thread_server
from video.clip import Clip

Sent = list[dict[str, Any]]


@pytest.fixture(scope="module")
def video() -> bytes:
    return packed(film().frames)


@pytest.fixture
def task(tmp_path: Path, video: bytes) -> Task:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "input").write_bytes(video)
    return Task("job", 1, folder, "zip", OPTIONS)


@pytest.fixture
def unpainted(task: Task) -> Task:
    """With texture=none: nothing is painted, which takes the longest."""
    return with_options(task, texture="none")


def recipe(
    pipeline: str,
    send: Callable[..., None] = lambda *_, **__: None,
    cancelled: threading.Event | None = None,
) -> Recipe:
    loaded = build_pipeline(f"tests.pipelines:{pipeline}")
    return Recipe(loaded, send, cancelled or threading.Event())


# --- through a server


def test_a_job_shows_its_view_score_and_colours(
    tmp_path: Path, video: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """As beside a GPU: another process than the pipeline's does it."""
    child = ChildConfig("tests.pipelines:Walks")
    executor = LocalExecutor(ExecutorOptions(child, separate_files=True))
    with (
        thread_server(tmp_path / "jobs", executor) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        job = ended(client, send(client, video).json()["job_id"])
        glb = client.get(job["outputs"]["animated_mesh"]).content
        command_line.main(["watch", job["job_id"], "--url", server.url])
    assert job["view"]["kind"] == "constant" and abs(job["view"]["azimuth"] - AZIMUTH) < 3
    score, texture = job["score"], job["texture"]
    assert score["outline_worst"] > 0.9 and score["motion"] > 0.45
    assert (
        score["outlines"][score["worst_frame"]] == score["outline_worst"] == min(score["outlines"])
    )
    assert score["runner_up"] < score["outline_mean"] and len(score["outlines"]) == 16
    assert (texture["state"], texture["reason"]) == ("baked", None)
    assert texture["seen"] + texture["mirrored"] + texture["filled"] == pytest.approx(1, abs=0.002)
    assert b"image/jpeg" in glb and job["warnings"] == []
    assert job["mesh"]["vertices"] > animal().vertices.shape[1]
    summary = capsys.readouterr().err
    assert "camera: 60° from the front" in summary and "fit: good" in summary
    assert "% seen" in summary


@pytest.mark.slow
def test_a_retry_can_leave_the_colours_out(tmp_path: Path, video: bytes) -> None:
    executor = LocalExecutor(ExecutorOptions(ChildConfig("tests.pipelines:WalksInView")))
    with (
        thread_server(tmp_path / "jobs", executor) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        job = ended(client, send(client, video).json()["job_id"])
        reply = client.post(f"/jobs/{job['job_id']}/retry", json={"texture": "none"})
        bare = ended(client, reply.json()["job_id"])
    assert job["texture"]["state"] == "baked" and bare["texture"]["state"] == "skipped"
    assert "asked" in bare["texture"]["reason"] and bare["warnings"] == []
    assert (bare["view"], bare["score"]) == (job["view"], job["score"])
    assert bare["mesh"]["vertices"] == animal().vertices.shape[1] < job["mesh"]["vertices"]


@pytest.mark.parametrize(
    ("signal", "separate_files"),
    [("SIGSEGV", True), pytest.param("SIGKILL", False, marks=pytest.mark.slow)],
)
def test_a_job_whose_process_ended_twice_in_the_step_finishes_without_it(
    tmp_path: Path, video: bytes, signal: str, separate_files: bool
) -> None:
    crash = {"CRASH_AT": "appearance:begun", "CRASH_SIGNAL": signal}
    child = ChildConfig("tests.pipelines:WalksInView", environment=crash)
    executor = LocalExecutor(ExecutorOptions(child, separate_files=separate_files))
    with (
        thread_server(tmp_path / "jobs", executor) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        job = ended(client, send(client, video).json()["job_id"])
    assert (job["status"], job["attempt"]) == ("finished", 3)
    assert job["texture"]["state"] == "failed" and "score" not in job
    assert [warning["code"] for warning in job["warnings"]] == ["appearance_failed"]
    assert job["outputs"]["preview_video"] is not None


# --- what is given, and what is left out


def appearance(pipeline: str, task: Task) -> tuple[Appearance, list[str]]:
    """Of the pipeline's meshes, without any files; and the codes of the warnings."""
    clip, meshes, reporter = recipe(pipeline).compute(task)
    made = add_appearance(clip, meshes, reporter)
    return made, [w["code"] for w in reporter.warnings if w["code"] != "tests"]


def test_a_view_of_the_pipelines_own_is_kept(unpainted: Task) -> None:
    made, codes = appearance("WalksInView", unpainted)
    assert made.meshes.view is not None and made.meshes.view.to_dict() == camera().to_dict()
    assert made.score["runner_up"] is None and made.score["outline_mean"] > 0.95 and codes == []
    assert made.texture["state"] == "skipped" and "asked" in made.texture["reason"]


def test_colours_of_the_pipelines_own_are_kept(task: Task) -> None:
    made, codes = appearance("WalksWithColours", task)
    assert made.texture["state"] == "given" and made.meshes.texture is None
    assert made.score["outline_mean"] > 0.95 and codes == []


def test_a_mesh_that_does_not_move_has_a_warning(unpainted: Task) -> None:
    made, codes = appearance("StandsInView", unpainted)
    assert codes == ["motion_mismatch"] and made.score["motion"] < 0.2


def test_another_subject_is_not_painted(task: Task) -> None:
    thin = np.zeros((16, 160, 160, 4), np.uint8)
    thin[:, 20:140, 76:84] = 255
    (task.folder / "input").write_bytes(packed(thin))
    made, codes = appearance("WalksInView", task)
    assert codes == ["outline_poor", "texture_skipped"] and made.meshes.texture is None
    assert made.texture["state"] == "skipped" and "0.75" in made.texture["reason"]


@pytest.mark.parametrize("kind", ["no alpha", "tiny"])
def test_without_outlines_there_is_no_score_and_no_warning(task: Task, kind: str) -> None:
    bare = packed(film().frames[..., :3])
    content = frames_zip() if kind == "tiny" else bare
    (task.folder / "input").write_bytes(content)
    made, codes = appearance("Walks", task)
    assert (made.meshes.view, made.score, codes) == (None, {}, [])
    reasons = {"no alpha": "not known which", "tiny": "16 pixels long"}
    assert made.texture["state"] == "skipped" and reasons[kind] in made.texture["reason"]


def test_a_mesh_without_size_has_no_view(task: Task) -> None:
    made, codes = appearance("Collapses", task)
    assert (made.meshes.view, made.score) == (None, {})
    assert codes == ["outline_poor", "texture_skipped"] and "no size" in made.texture["reason"]


def test_the_masks_are_used_and_damaged_ones_are_not(unpainted: Task) -> None:
    (unpainted.folder / "input").write_bytes(packed(film().frames[..., :3]))
    clip, meshes, reporter = recipe("WalksInView").compute(unpainted)
    reporter.subject(film(), "model", 0.9)
    assert add_appearance(clip, meshes, reporter).score["outline_mean"] > 0.95
    masks = unpainted.workspace / MASKS
    masks.write_bytes(masks.read_bytes()[:-100])
    assert add_appearance(clip, meshes, reporter).score == {}


# --- failures


def test_an_error_in_the_step_does_not_fail_the_job(
    task: Task, caplog: pytest.LogCaptureFixture
) -> None:
    run = recipe("WalksInView")
    run.compute(task)
    (task.checkpoint / "appearance_begun").mkdir()  # so that the note cannot be written
    result = run.run(replace(task, attempt=2))
    assert [warning["code"] for warning in result.warnings] == ["appearance_failed"]
    assert result.texture["state"] == "failed" and "appearance step failed" in caplog.text
    assert {"mesh_015.glb", "preview.mp4"} <= {file.name for file in result.files}


def test_without_the_programs_of_the_sandbox_view_and_score_are_kept(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """xatlas cannot be started: its process runs the Python that `sys.executable` names."""
    clip, meshes, reporter = recipe("WalksInView").compute(task)
    monkeypatch.setattr(sys, "executable", str(task.folder / "no_python"))
    made = add_appearance(clip, meshes, reporter)
    assert made.texture["state"] == "failed" and made.score["outline_mean"] > 0.95
    assert made.meshes is meshes
    assert [warning["code"] for warning in reporter.warnings] == ["appearance_failed"]


def test_a_full_disk_fails_the_job(task: Task) -> None:
    clip, meshes, reporter = recipe("WalksInView").compute(task)
    (task.checkpoint / "appearance_begun").symlink_to("/dev/full")
    with pytest.raises(OSError) as full:
        add_appearance(clip, meshes, reporter)
    assert full.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("Walks", "Finding the camera"),
        ("WalksInView", "Comparing the mesh with the video"),
        ("WalksInView", "Unwrapping the mesh"),
        ("WalksInView", "Painting the mesh"),
    ],
)
def test_it_can_be_cancelled(task: Task, pipeline: str, message: str) -> None:
    cancelled, said = threading.Event(), set[str]()

    def cancel(_: str, **about: Any) -> None:
        said.add(about["message"])
        if about["message"] == message:
            cancelled.set()

    with pytest.raises(Cancelled):
        recipe(pipeline, cancel, cancelled).run(task)
    assert message in said and "Writing the meshes" not in said
    assert not (task.checkpoint / "appearance_begun").exists()


# --- progress


@pytest.mark.parametrize("parts", [AFTER, AFTER[1:], AFTER[2:]])
def test_the_parts_that_are_left_fill_the_rest_of_a_job(task: Task, parts: tuple[str, ...]) -> None:
    sent: Sent = []
    task = with_options(task, formats=("skinned",))
    reports = JobReporter(
        task, "actionmesh", {"shape": 1.0}, lambda _, **about: sent.append(about), threading.Event()
    )
    reports.progress("shape", 1, 1)
    begin = sent[-1]["fraction"]
    reports.plan(*parts)
    for part in parts:
        for step in range(10):
            if part in ("view", "texture", "skin"):
                reports.part(part, (step + 1) / 10, f"At {part}")
            else:
                reports.progress(part, step + 1, 10, "Writing")
    fractions = [about["fraction"] for about in sent]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert sent[1]["fraction"] - begin < 0.1
    assert {about["stage"] for about in sent[1:]} == {"exporting", "rendering"}


def test_the_last_message_of_a_stage_is_shown(task: Task) -> None:
    sent: Sent = []
    reports = JobReporter(
        task, "tests", {}, lambda _, **about: sent.append(about), threading.Event()
    )
    reports.part("view", 1.0, "Finding the camera")
    reports.progress("exporting", 0, 18, "Writing the meshes")
    reports.progress("exporting", 18, 18)
    assert sent[-1]["message"] == "Writing the meshes"


def test_only_mode_default_makes_a_large_texture() -> None:
    meshes = replace(animal(1), view=camera(1, 160))
    detailed = Clip(np.zeros((1, 2000, 2000, 4), np.uint8), 8.0, film(1, 160).source)
    assert texture_px(meshes, detailed, "default") == 2048
    assert texture_px(meshes, detailed, "fast") == 1024
    assert texture_px(meshes, film(1, 160), "default") == 1024
