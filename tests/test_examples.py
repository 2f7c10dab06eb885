"""The example clip is what its script renders, and a job uses all of its frames."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from examples.make_dancing_sprout import CLIP, FPS, FRAMES, frame, pose
from video.frames import read_clip
from video.sampling import DEFAULT_FRAMES


@pytest.fixture(scope="module")
def frames() -> NDArray[np.uint8]:
    clip, warnings = read_clip(CLIP, "mov")
    assert list(warnings) == []
    assert clip.fps == FPS
    return clip.frames


def test_the_clip_is_small_and_can_play_while_loading() -> None:
    whole = CLIP.read_bytes()
    assert len(whole) < 500_000
    assert whole.index(b"moov") < whole.index(b"mdat")


def test_a_job_uses_every_frame(frames: NDArray[np.uint8]) -> None:
    assert len(frames) == FRAMES == DEFAULT_FRAMES


def test_the_dance_is_a_loop() -> None:
    for first, after in zip(pose(0.0), pose(1.0), strict=True):
        np.testing.assert_allclose(first.at, after.at, atol=1e-5)


def test_the_whole_figure_stays_inside_a_margin(frames: NDArray[np.uint8]) -> None:
    paper = np.median(frames[:, :, :8].astype(int), axis=2, keepdims=True)
    figure = (np.abs(frames - paper).max(axis=3) > 40).any(axis=0)
    rows, columns = np.nonzero(figure.any(axis=1))[0], np.nonzero(figure.any(axis=0))[0]
    height, width = figure.shape
    assert rows[0] >= 0.08 * height and height - 1 - rows[-1] >= 0.08 * height
    assert columns[0] >= 0.08 * width and width - 1 - columns[-1] >= 0.08 * width


@pytest.mark.slow
def test_the_script_renders_the_same_clip(frames: NDArray[np.uint8]) -> None:
    difference = np.abs(frame(8).astype(int) - frames[8])
    assert difference.mean() < 2
    assert np.percentile(difference, 99) < 30  # what 4:2:0 and the codec leave at edges
