"""The part of a clip in which something moves is found, whatever the camera does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.clips import ffmpeg, numbered
from tests.video.late_subject import late_subject, panned
from video.motion_scan import find_motion


def test_the_seconds_in_which_something_moves_are_found(tmp_path: Path) -> None:
    path = late_subject(tmp_path / "clip.mp4", 8, 14, 20)
    start = find_motion(path, "mov", 3.0)
    assert start is not None and 8 <= start <= 11


def test_a_camera_that_pans_is_not_what_moves(tmp_path: Path) -> None:
    path = late_subject(tmp_path / "clip.mp4", 6, 10, 12, panned(12))
    start = find_motion(path, "mov", 3.0)
    assert start is not None and 5.75 <= start <= 7.25


@pytest.mark.parametrize("enters_s", [30, 4.5])
def test_a_still_clip_and_a_clip_shorter_than_the_span_have_none(
    enters_s: float, tmp_path: Path
) -> None:
    path = late_subject(tmp_path / "clip.mp4", enters_s, 40, 5)
    assert find_motion(path, "mov", 3.0 if enters_s > 5 else 6.0) is None


def test_a_gif_is_looked_through_too(tmp_path: Path) -> None:
    path = late_subject(tmp_path / "clip.mp4", 3, 6, 7)
    ffmpeg("-i", str(path), "-vf", "fps=10", "-c:v", "gif", "-f", "gif", str(tmp_path / "input"))
    start = find_motion(tmp_path / "input", "gif", 2.0)
    assert start is not None and 3 <= start <= 4.25


def test_a_damaged_clip_gives_nothing(tmp_path: Path) -> None:
    path = numbered(tmp_path / "clip.mp4", 60)
    path.write_bytes(path.read_bytes()[:-300])
    assert find_motion(path, "mov", 1.0) is None


def test_a_cancelled_job_ends_the_search(tmp_path: Path) -> None:
    path = late_subject(tmp_path / "clip.mp4", 3, 6, 7)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        find_motion(path, "mov", 2.0, stop)
