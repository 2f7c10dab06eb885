"""The check of masks that another program made: right ones pass, and wrong ones are doubted."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from subject.mask_check import MaskCheck, frames_moving_outside
from tests.upstream.recording_reporter import RecordingReporter

Frames = NDArray[np.uint8]

RIGHT_LIMIT, WRONG_LIMIT = 0.3, 0.5
"""Shares of frames: right masks stay below the first, and a warning comes above the second."""


def moving_square() -> tuple[Frames, Frames]:
    """A textured square that moves 4 pixels a frame over a still, textured wall, and its masks."""
    random = np.random.default_rng(0)
    wall = cv2.GaussianBlur(random.integers(0, 255, (192, 256, 3), dtype=np.uint8), (0, 0), 2)
    square = cv2.GaussianBlur(random.integers(0, 255, (60, 60, 3), dtype=np.uint8), (0, 0), 2)
    frames, masks = np.stack([wall] * 16), np.zeros((16, 192, 256), np.uint8)
    for t in range(16):
        where = np.s_[t, 70:130, 40 + 4 * t : 100 + 4 * t]
        frames[where], masks[where] = square, 255
    return frames, masks


def test_a_mask_on_what_moves_is_not_doubted() -> None:
    assert frames_moving_outside(*moving_square()) == 0


@pytest.mark.parametrize("wrong", ["inverted", "elsewhere"])
def test_a_mask_on_what_stands_still_is_outside_of_the_motion(wrong: str) -> None:
    frames, masks = moving_square()
    other = 255 - masks if wrong == "inverted" else np.roll(masks, 96, axis=1)
    assert frames_moving_outside(frames, other) == 1


def test_where_nothing_moves_nothing_is_doubted() -> None:
    frames, masks = moving_square()
    assert frames_moving_outside(np.stack([frames[0]] * 16), masks) == 0


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (MaskCheck(0.9, 0.2), None),
        (MaskCheck(0.6, 0.2), "0.60 on a scale from 0 to 1, needed 0.75"),
        (MaskCheck(0.9, 0.8), "in 80% of the frames what moves is outside"),
    ],
)
def test_the_warning_names_numbers_and_what_to_do(check: MaskCheck, words: str | None) -> None:
    reporter = RecordingReporter()
    check.warn("RMBG", reporter)
    assert reporter.warnings == ([] if words is None else ["low_confidence_segmentation"])
    if words is not None:
        (text,) = reporter.messages
        assert words in text and "RMBG" in text and "subject_box" in text and "SUBJECT" in text


def pictures(archive: Path, how: int) -> Frames:
    with zipfile.ZipFile(archive) as members:
        encoded = [members.read(name) for name in sorted(members.namelist())]
    decoded = [cv2.imdecode(np.frombuffer(each, np.uint8), how) for each in encoded]
    return np.stack([np.asarray(picture, np.uint8) for picture in decoded])


def test_real_clips_are_doubted_only_with_wrong_masks(test_media: Path) -> None:
    caught = 0
    clips = sorted((test_media / "davis").glob("*_masks.zip"))
    for path in clips:
        frames = pictures(path.with_name(path.name.replace("_masks", "")), cv2.IMREAD_COLOR)
        masks = pictures(path, cv2.IMREAD_GRAYSCALE)
        assert frames_moving_outside(frames, masks) < RIGHT_LIMIT, path.stem
        moved = np.roll(masks, masks.shape[2] // 2, axis=2)
        caught += frames_moving_outside(frames, moved) > WRONG_LIMIT
    assert caught >= len(clips) / 2
