"""subject.webp and masks.zip: what they show, when they are there, and that they are never lost."""

from __future__ import annotations

import json
import struct
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from child.pipelines import build_pipeline
from child.recipe import Recipe
from child.reporter import JobReporter
from child.subject_files import (
    MOST_BYTES,
    STRIP_PX,
    DamagedMasks,
    first_box,
    read_masks,
    write_masks,
    write_strip,
)
from errors import Cancelled
from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.task import ANCHOR, EARLY_FILES, MASKS, SUBJECT, ChildConfig, Result, Task
from tests.api.bodies import ended, frames_zip, send
from tests.executors.blocking_blender import BlockingBlender
from tests.job_factory import OPTIONS, with_options
from tests.servers import thread_server
from tests.waiting import wait_until
from video.clip import Clip, SourceFacts

BOX = "0.2,0.2,0.8,0.8"


def walking_square(width: int, height: int, count: int = 9, source: int = 1) -> Clip:
    """Orange on noise, two fifths of the width and half of the height; the source is larger."""
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (count, height, width, 4)).astype(np.uint8)
    frames[..., 3] = 0
    for k, frame in enumerate(frames):
        left = (k * width) // (2 * count)
        frame[height // 4 : height * 3 // 4, left : left + width * 2 // 5] = (230, 120, 20, 255)
    facts = SourceFacts(width * source, height * source, count, 16.0, tuple(range(count)))
    return Clip(frames, 16.0, facts)


def picture(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


# --- the pictures


@pytest.mark.parametrize(
    ("width", "height", "shown"),
    [(640, 360, 8), (360, 640, 8), (1024, 32, 1), (32, 1024, 8), (16, 16, 8), (1024, 1024, 8)],
)
def test_the_strip_dims_all_but_the_subject(
    tmp_path: Path, width: int, height: int, shown: int
) -> None:
    write_strip(walking_square(width, height), tmp_path / SUBJECT)
    assert (tmp_path / SUBJECT).stat().st_size <= MOST_BYTES
    strip = picture((tmp_path / SUBJECT).read_bytes())[..., ::-1].astype(int)
    assert strip.shape[0] <= STRIP_PX and strip.shape[1] <= 2600
    panel = (strip.shape[1] - 4 * (shown - 1)) // shown
    for first in (0, panel + 4)[:shown]:
        subject = strip[strip.shape[0] // 2, first + panel // 3]
        corner = strip[1:4, first : first + panel].reshape(-1, 3)
        if panel > 20:  # else it is all outline
            assert np.abs(subject - (230, 120, 20)).max() < 30
        assert corner.max() < 140 and np.ptp(corner, axis=1).max() < 30


def test_the_masks_are_those_of_the_source_frames(tmp_path: Path) -> None:
    clip = walking_square(90, 60, source=4)
    for name in ("one.zip", "two.zip"):
        write_masks(clip, tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == [f"mask_{k:03d}.png" for k in range(9)]
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        for k, name in enumerate(archive.namelist()):
            mask = picture(archive.read(name))
            assert mask.shape == (240, 360) and mask.dtype == np.uint8
            small = cv2.resize(mask, (90, 60), interpolation=cv2.INTER_AREA)
            assert ((small > 127) == (clip.frames[k, ..., 3] > 127)).all()


def test_masks_are_read_as_they_were_written(tmp_path: Path) -> None:
    clip = walking_square(90, 60, source=4)
    write_masks(clip, tmp_path / MASKS)
    found = read_masks(tmp_path / MASKS, clip)
    assert found.dtype == np.uint8 and ((found > 127) == (clip.frames[..., 3] > 127)).all()
    with pytest.raises(FileNotFoundError):
        read_masks(tmp_path / "none.zip", clip)
    with pytest.raises(Cancelled):
        read_masks(tmp_path / MASKS, clip, tick=partial(_raise, Cancelled()))


@pytest.mark.parametrize("damage", ["cut off", "no zip", "a picture", "other frames", "other size"])
def test_damaged_masks_are_told(tmp_path: Path, damage: str) -> None:
    clip, path = walking_square(90, 60), tmp_path / MASKS
    write_masks(clip, path)
    content = path.read_bytes()
    if damage == "cut off":
        path.write_bytes(content[:-40])
    elif damage == "no zip":
        path.write_bytes(b"PK")
    elif damage == "a picture":
        path.write_bytes(content.replace(b"IDAT", b"IDAX"))
    elif damage == "other frames":
        write_masks(walking_square(90, 60, count=8), path)
    else:
        write_masks(walking_square(90, 61), path)
    with pytest.raises(DamagedMasks):
        read_masks(path, clip)


def _raise(error: Exception) -> None:
    raise error


def test_the_box_is_that_of_the_first_frame() -> None:
    clip = walking_square(100, 80)
    assert first_box(clip) == "0,0.25,0.4,0.75"
    assert first_box(clip.with_alpha(np.zeros((9, 80, 100), np.uint8))) is None


# --- in a job


Sent = list[dict[str, Any]]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "input").write_bytes(frames_zip())
    return with_options(Task("job", 1, folder, "zip", OPTIONS), subject_box=BOX)


def recipe(send: Callable[..., None]) -> Recipe:
    return Recipe(build_pipeline("tests.pipelines:Specks"), send, threading.Event())


def reporter(task: Task, sent: Sent) -> JobReporter:
    task.workspace.mkdir()
    return JobReporter(
        task, "tests", {"shape": 1.0}, lambda _, **about: sent.append(about), threading.Event()
    )


def test_a_file_is_told_at_once_and_not_at_the_next_report(task: Task) -> None:
    sent: Sent = []
    reports = reporter(task, sent)
    reports.progress("shape", 1, 1000)
    reports.progress("shape", 2, 1000)  # too soon after the first to be sent
    reports.written("mesh_000.glb")
    assert [(about["step"], about["ready"]) for about in sent] == [(1, ()), (2, ("mesh_000.glb",))]


def test_pictures_that_cannot_be_written_are_a_warning(task: Task) -> None:
    reports = reporter(task, [])
    (task.workspace / MASKS).mkdir()
    reports.subject(walking_square(64, 64), "alpha", 1.0)
    assert [warning["code"] for warning in reports.warnings] == ["masks_failed"]
    assert reports.ready == (SUBJECT,)
    assert reports.found_subject == {
        "method": "alpha", "confidence": 1.0, "box": "0,0.25,0.3906,0.75"
    }  # fmt: skip


def test_a_cancel_ends_the_writing_of_masks(task: Task) -> None:
    cancelled = threading.Event()

    def cancel_after_the_strip(_: str, **about: Any) -> None:
        if about["ready"] == (SUBJECT,):
            cancelled.set()

    task.workspace.mkdir()
    reports = JobReporter(task, "tests", {"shape": 1.0}, cancel_after_the_strip, cancelled)
    reports.progress("background", 0, 1)
    with pytest.raises(Cancelled):
        reports.subject(walking_square(64, 64))
    assert [path.name for path in task.workspace.iterdir()] == [SUBJECT]


def test_every_file_is_ready_once_it_is_complete(task: Task) -> None:
    lists: list[list[str]] = []

    def check(_: str, **about: Any) -> None:
        new = [name for name in about["ready"] if name not in (lists[-1] if lists else [])]
        lists.append(list(about["ready"]))
        for name in new:
            assert is_complete(task.workspace / name), name

    result = recipe(check).run(with_options(task, formats=("npz",)))
    order = lists[-1]
    assert order[:3] == [SUBJECT, MASKS, ANCHOR]
    assert order[3:] == [
        *(f"mesh_{k:03d}.glb" for k in range(16)), "animated_mesh.glb", "meshes.zip",
        "animated_mesh.npz", "source.mp4", "preview.mp4", "poster.webp",
    ]  # fmt: skip
    assert {file.name for file in result.files} == set(order)
    assert all(after[: len(before)] == before for before, after in zip(lists, lists[1:]))  # noqa: B905
    assert result.subject == {"method": "alpha", "confidence": 1.0, "box": "0.25,0.25,0.5625,0.75"}


def is_complete(path: Path) -> bool:
    """As far as its head tells."""
    content = path.read_bytes()
    if path.suffix == ".glb":
        return bool(struct.unpack("<4sII", content[:12]) == (b"glTF", 2, len(content)))
    if path.suffix == ".webp":
        return bool(struct.unpack("<I", content[4:8])[0] + 8 == len(content))
    if path.suffix in (".zip", ".npz"):
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    return b"moov" in content


def test_an_attempt_that_uses_a_checkpoint_has_the_same_early_files(task: Task) -> None:
    first = recipe(lambda *_, **__: None)
    first.compute(task)
    contents = {name: (task.workspace / name).read_bytes() for name in EARLY_FILES}
    second, last = replace(task, attempt=2), replace(task, attempt=3)
    for attempt, result in (
        (second, first.run(second)),
        (last, replace(first, pipeline=None).export(last)),
    ):
        assert isinstance(result, Result) and result.subject["method"] == "alpha"
        assert {file.name for file in result.files} >= set(EARLY_FILES)
        for name, content in contents.items():
            assert (attempt.workspace / name).read_bytes() == content


def test_a_checkpoint_of_an_earlier_version_is_used(task: Task) -> None:
    first = recipe(lambda *_, **__: None)
    first.compute(task)
    made = task.checkpoint / "made.json"
    record = json.loads(made.read_text())
    made.write_text(json.dumps({k: v for k, v in record.items() if k not in ("ready", "subject")}))
    result = replace(first, pipeline=None).export(replace(task, attempt=2))
    assert result.subject == {} and MASKS not in {file.name for file in result.files}


@pytest.mark.parametrize("separate_files", [False, True])
def test_files_of_a_job_that_is_still_exported_can_be_downloaded(
    tmp_path: Path, separate_files: bool
) -> None:
    blender = BlockingBlender(tmp_path)
    child = ChildConfig("tests.pipelines:Specks", blender_path=blender.program)
    executor = LocalExecutor(ExecutorOptions(child, separate_files=separate_files))
    with (
        thread_server(tmp_path / "jobs", executor) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        sent = send(client, fields={"blender_export": "true", "subject_box": BOX})
        job_id = sent.json()["job_id"]
        wait_until(blender.count)
        job = client.get(f"/jobs/{job_id}").json()
        assert job["status"] == "running" and job["options"]["subject_box"] == BOX
        assert [*EARLY_FILES, "mesh_000.glb"] == job["ready"][:4]
        assert job["ready"][-2:] == ["animated_mesh.glb", "meshes.zip"]
        early = {name: client.get(f"/outputs/{job_id}/{name}") for name in job["ready"]}
        with client.stream("GET", f"/jobs/{job_id}/events") as events:
            assert any('"ready":["subject.webp"' in line for line in events.iter_lines())
        blender.release()
        finished = ended(client, job_id)
        for name, response in early.items():
            assert response.content == client.get(f"/outputs/{job_id}/{name}").content, name
    assert early[MASKS].headers["content-disposition"].endswith(f'"masks_{job_id[:8]}.zip"')
    assert finished["outputs"]["masks"] == f"/outputs/{job_id}/{MASKS}"
    assert finished["outputs"]["subject"] == f"/outputs/{job_id}/{SUBJECT}"
    assert finished["subject"]["method"] == "alpha" and "ready" not in finished
