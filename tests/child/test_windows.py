"""Jobs whose first seconds show no subject: real videos, the silhouette pipeline."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from child.pipelines import build_pipeline
from child.recipe import Recipe
from child.windows import with_windows
from errors import NoSubjectFound
from job.task import Task
from tests.job_factory import OPTIONS, with_options
from tests.video.clips import H264, numbered
from tests.video.late_subject import late_subject
from video.frames import read_clip
from video.sampling import FrameRequest


def recipe() -> Recipe:
    return Recipe(build_pipeline("silhouette"), lambda *_, **__: None, threading.Event())


def task(folder: Path, **options: object) -> Task:
    made = Task("a", 1, folder, "mov", OPTIONS)
    return with_options(made, mode="fast_low_ram", max_frames=16, **options)


def test_the_seconds_with_motion_are_used_where_the_first_show_nothing(tmp_path: Path) -> None:
    late_subject(tmp_path / "input.mp4", 8, 14, 16).rename(tmp_path / "input")
    asked = task(tmp_path)
    clip, meshes, reporter = recipe().compute(asked)
    first, last = (clip.source.used[k] / 30 for k in (0, -1))
    assert len(meshes) == 16 and 8 <= first < last <= 14
    (warning,) = [kept for kept in reporter.warnings if kept["code"] == "window_only"]
    assert warning["message"].startswith("Nothing was found in 0.0 s to ")
    assert f"so {first:.1f} s to {last:.1f} s are used" in warning["message"]
    assert "start" in warning["message"]
    assert "unused_tail" not in [kept["code"] for kept in reporter.warnings]
    # the next attempt, and the process that writes the files, read the same frames
    again, _, reports = recipe().compute(replace(asked, attempt=2))
    assert again.source == clip.source and warning in reports.warnings
    assert reports.start == reporter.start and abs(reporter.start - first) <= 1 / 30
    # source.mp4 shows them as they were sent
    same, _ = read_clip(tmp_path / "input", "mov", FrameRequest(reporter.start, max_frames=16))
    assert same.source == clip.source and (same.frames == clip.frames).all()


def test_an_error_names_the_seconds_looked_at_and_start(tmp_path: Path) -> None:
    late_subject(tmp_path / "input.mp4", 30, 40, 12).rename(tmp_path / "input")
    with pytest.raises(NoSubjectFound) as still:
        recipe().compute(task(tmp_path))
    assert "Only 0.0 s to 1.5 s of the clip were looked at." in still.value.message
    assert "`start`" in still.value.hint and still.value.facts["method"]


def test_seconds_are_those_of_a_clip_whose_rate_changes(tmp_path: Path) -> None:
    slow_then_fast = "setpts=if(lt(N\\,50)\\,N/10\\,5+(N-50)/60)/TB"
    timed = (*H264, "-fps_mode", "vfr", "-enc_time_base", "1:600")
    path = numbered(tmp_path / "clip.mp4", 500, *timed, rate=600, filters=slow_then_fast)
    clip, _ = read_clip(path, "mov", FrameRequest(start=6.0))
    told = with_windows(NoSubjectFound("Nothing."), [clip])
    assert "Only 6.0 s to " in told.message


def test_a_start_that_the_client_has_chosen_is_kept(tmp_path: Path) -> None:
    late_subject(tmp_path / "input.mp4", 8, 14, 16).rename(tmp_path / "input")
    with pytest.raises(NoSubjectFound, match=r"Only 1\.0 s to 2\.5 s of the clip"):
        recipe().compute(task(tmp_path, start=1.0))
