"""The subject of real clips, compared with true masks. They need TEST_MEDIA and the net's file."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from errors import NoSubjectFound
from pipeline import SubjectChoice
from subject.find import SURE, find_subject
from subject.model import load_model
from tests.silhouette.measure import ReportLog, as_clip
from tests.subject.real_clips import box_around, load_real, overlaps, real_names

MEDIA = Path(os.environ.get("TEST_MEDIA") or "/nowhere")
pytestmark = [
    pytest.mark.skipif(not os.environ.get("TEST_MEDIA"), reason="TEST_MEDIA is not set"),
    pytest.mark.skipif(load_model() is None, reason="the net's file is not installed"),
]


def test_a_clear_subject_in_a_busy_scene_is_found_without_a_warning() -> None:
    sample, log = load_real(MEDIA, "car-shadow", 5), ReportLog()
    found = find_subject(sample.clip, None, log)
    assert found.method == "model"
    assert found.confidence >= SURE
    assert overlaps(found.clip, sample.truth).mean() > 0.9
    assert "low_confidence_segmentation" not in log.warnings


def test_a_photo_filmed_with_a_shaking_hand_is_no_subject() -> None:
    picture = load_real(MEDIA, "blackswan", 1).clip.frames[0]
    frames = np.stack([picture[y : y + 460, x : x + 820] for x, y in [(8, 9), (11, 7), (6, 12)]])
    with pytest.raises(NoSubjectFound, match="does not move"):
        find_subject(as_clip(frames), None, ReportLog())


@pytest.mark.parametrize("name", ["dog", "libby"])  # a pole stands in front of libby
def test_the_subject_under_a_point_is_found(name: str) -> None:
    sample = load_real(MEDIA, name, 4)
    rows, columns = np.nonzero(sample.truth[0])
    middle = len(rows) // 2
    height, width = sample.truth[0].shape
    point = (columns[middle] / width, rows[middle] / height)
    found = find_subject(sample.clip, SubjectChoice(point=point), ReportLog())
    assert found.method == "point"
    assert overlaps(found.clip, sample.truth).mean() > 0.75


def test_a_small_thing_that_the_flow_loses_is_followed_by_its_motion() -> None:
    sample = load_real(MEDIA, "drift-chicane", 9)
    choice = SubjectChoice(box=box_around(sample.truth[0]))
    found = find_subject(sample.clip, choice, ReportLog())
    assert overlaps(found.clip, sample.truth)[-2:].mean() > 0.6


def test_every_look_is_a_chance_to_cancel() -> None:
    class Counter(ReportLog):
        reports = 0

        def progress(self, stage: str, step: int, steps: int, message: str = "") -> None:
            assert 0 <= step <= steps
            self.reports += 1

    sample, counter = load_real(MEDIA, "car-shadow", 5), Counter()
    find_subject(sample.clip, SubjectChoice(box=box_around(sample.truth[0])), counter)
    assert counter.reports > 2 * len(sample.clip)


@pytest.mark.slow
def test_a_busy_scene_that_passes_as_plain_is_looked_at_by_the_net() -> None:
    from video.frames import read_clip
    from video.sampling import MIN_FRAMES, FrameRequest

    clip, _ = read_clip(MEDIA / "field" / "F2_judo.zip", "zip", FrameRequest(max_frames=MIN_FRAMES))
    found = find_subject(clip, None, ReportLog())
    assert found.method == "model"
    assert 0.03 < (found.clip.frames[..., 3] > 127).mean() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("name", real_names(MEDIA))
def test_every_real_clip_has_a_result_and_a_doubtful_one_a_warning(name: str) -> None:
    sample, log = load_real(MEDIA, name, 8), ReportLog()
    found = find_subject(sample.clip, None, log)
    iou = overlaps(found.clip, sample.truth).mean()
    assert iou > 0.7 or "low_confidence_segmentation" in log.warnings


@pytest.mark.slow
def test_masks_of_all_real_clips_keep_their_mean() -> None:
    means = []
    cv2.setNumThreads(1)
    for name in real_names(MEDIA):
        sample = load_real(MEDIA, name)
        found = find_subject(
            sample.clip, SubjectChoice(box=box_around(sample.truth[0])), ReportLog()
        )
        means.append(overlaps(found.clip, sample.truth).mean())
    assert np.mean(means) > 0.79
