"""How doubtful masks are made known: what motion says about them, and scenes without a subject."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np

from errors import NoSubjectFound
from subject.find import find_subject
from subject.mask_check import moving_beside
from tests.silhouette.measure import ReportLog
from video.frames import read_clip
from video.sampling import FrameRequest
from video.sandbox import ffmpeg_path

_SPEED = np.zeros((128, 256), np.float32)
_SPEED[40:80, 100:160] = 2.0
_MOVING = _SPEED > 0


def test_a_mask_without_half_of_what_moves_is_doubtful_and_the_whole_is_not() -> None:
    half = _MOVING.copy()
    half[:, 130:] = False
    close_px = round(0.5 * (30 * 40) ** 0.5)  # of the other half, less the rim of 4 pixels
    assert moving_beside([_SPEED] * 3, [half] * 3) > 0.9 * (close_px - 4) / 30
    assert moving_beside([_SPEED] * 3, [_MOVING] * 3) < 0.2


def test_motion_says_nothing_where_the_background_moves() -> None:
    water = cv2.resize(np.float32(np.random.default_rng(0).random((16, 32)) * 4), (256, 128))
    half = _MOVING.copy()
    half[:, 130:] = False
    assert moving_beside([np.maximum(water, _SPEED)] * 3, [half] * 3) == 0


def test_a_moving_test_card_gets_no_mesh_without_a_warning(tmp_path: Path) -> None:
    args = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=15:d=1.2", "-pix_fmt", "yuv420p")
    subprocess.run([ffmpeg_path(), "-loglevel", "error", *args, tmp_path / "card.mp4"], check=True)
    clip, _ = read_clip(tmp_path / "card.mp4", "mov", FrameRequest(max_frames=16))
    log = ReportLog()
    try:
        find_subject(clip, None, log)
    except NoSubjectFound:
        return
    assert "low_confidence_segmentation" in log.warnings
