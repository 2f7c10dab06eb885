"""Segmentation, compared with the true masks of synthetic clips."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from errors import NoSubjectFound
from subject.checks import check_motion
from subject.find import find_subject
from subject.motion_grabcut import MotionSegmentation
from subject.plain_background import fit_background, subject_mask
from tests.silhouette.measure import ReportLog, as_clip
from tests.silhouette.synthetic_clips import Frames, busy, on_background, plain, walker
from tests.subject.real_clips import overlaps
from video.clip import Clip, SourceFacts


def _shadowed(wall: Frames, rim_px: float) -> Frames:
    """A contact shadow under the walker's feet, a third darker, with a rim of `rim_px` pixels."""
    side = len(wall)
    shade = np.zeros((side, side), np.float32)
    feet, reach = (side // 2, round(0.85 * side)), (side // 3, side // 20)
    cv2.ellipse(shade, feet, reach, 0, 0, 360, 1.0, -1)
    shade = cv2.GaussianBlur(shade, (0, 0), rim_px)
    out: Frames = (wall * (1 - 0.35 * shade[..., None])).astype(np.uint8)
    return out


@pytest.mark.parametrize("rim_px", [5.0, 8.0, 14.0])
def test_a_shadow_is_background_however_steep_its_rim(rim_px: float) -> None:
    frames, masks = walker(count=1, side=512)
    picture = on_background(frames, masks, _shadowed(plain(512, (186, 186, 184)), rim_px))[0]
    found = subject_mask(picture, fit_background(picture))
    overlap = np.count_nonzero(found & masks[0]) / np.count_nonzero(found | masks[0])
    assert overlap > 0.97


@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize(("width", "is_cut"), [(0.01, False), (0.04, True)])
def test_what_touches_the_border_counts_by_its_share_of_the_edge(
    side: int, width: float, is_cut: bool
) -> None:
    picture = plain(side, (230, 230, 230))
    middle, half = side // 2, side // 4
    picture[middle - half : middle + half, middle - half : middle + half] = (40, 60, 120)
    leg = round(width * side / 2)
    picture[middle:, middle - leg : middle + leg] = (40, 60, 120)  # down to the lower edge
    reporter = ReportLog()
    find_subject(as_clip(np.stack([picture] * 2)), None, reporter)
    assert ("subject_touches_border" in reporter.warnings) == is_cut


def test_an_error_names_the_frames_and_seconds_in_which_the_subject_is_there() -> None:
    frames = np.full((16, 64, 64, 4), 90, np.uint8)
    frames[..., 3] = 0
    frames[8:, 20:40, 20:40, 3] = 255
    frames[2, 20:40, 20:40, 3] = 255
    source = SourceFacts(64, 64, 200, 10.0, tuple(range(0, 80, 5)))
    seconds = tuple(k / 10 for k in source.used)
    with pytest.raises(NoSubjectFound) as late:
        find_subject(Clip(frames, 2.0, source, seconds), None, ReportLog())
    there = "It is there in frames 3 to 3 (1.0 s to 1.0 s), frames 9 to 16 (4.0 s to 7.5 s)."
    assert there in late.value.message and "`start`" in late.value.hint


@pytest.fixture
def without_net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which the net's file is missing."""
    monkeypatch.setenv("SUBJECT_MODEL", str(tmp_path / "missing.onnx"))


@pytest.mark.usefixtures("without_net")
def test_without_the_net_motion_finds_the_subject_and_the_warning_says_so() -> None:
    frames, masks = walker(side=256)
    log = ReportLog()
    clip = as_clip(on_background(frames, masks, busy(16, 256, 2.0, seed=5)))
    found = find_subject(clip, None, log)
    assert found.method == "motion_grabcut"
    assert overlaps(found.clip, masks).mean() > 0.6
    assert "low_confidence_segmentation" in log.warnings


@pytest.mark.parametrize(
    ("contrast", "motion_px", "lacking", "enough"),
    [(0.15, 1.0, "contrast 0.150", "px per frame"), (0.22, 0.1, "motion 0.10", "contrast")],
)
def test_the_error_names_only_what_is_too_low(
    contrast: float, motion_px: float, lacking: str, enough: str
) -> None:
    with pytest.raises(NoSubjectFound) as caught:
        check_motion(MotionSegmentation([], contrast, motion_px), np.zeros((1, 8, 8), np.uint8))
    assert lacking in str(caught.value)
    assert enough not in str(caught.value)


def test_a_wall_in_a_gifs_dots_is_still_plain() -> None:
    """Two colours side by side stand for the one between them."""
    frames, masks = walker(side=256)
    wall = plain(256, (196, 199, 193))
    wall[::2, ::2] = wall[1::2, 1::2] = (222, 214, 224)
    clip = as_clip(on_background(frames, masks, wall) & np.uint8(0xE0))  # few colours
    found = find_subject(clip, None, ReportLog())
    assert found.method == "plain_background"
    assert overlaps(found.clip, masks).mean() > 0.85
