"""Segmentation, compared with the true masks of synthetic clips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from errors import NoSubjectFound
from subject.find import find_subject
from subject.plain_background import fit_background, subject_mask
from tests.silhouette.measure import ReportLog, as_clip
from tests.silhouette.synthetic_clips import Frames, on_background, plain, walker
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
    with pytest.raises(NoSubjectFound) as late:
        find_subject(Clip(frames, 2.0, source), None, ReportLog())
    there = "It is there in frames 3 to 3 (1.0 s to 1.0 s), frames 9 to 16 (4.0 s to 7.5 s)."
    assert there in late.value.message and "`start`" in late.value.hint
