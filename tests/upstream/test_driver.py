"""Our driver against upstream's own call, with upstream's real code and tiny random weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actionmesh_wrapper import ActionMeshPipeline
from pipeline import MODES, Mode
from tests.upstream import tiny
from tests.upstream.conftest import on_card
from tests.upstream.recording_reporter import RecordingReporter
from upstream.speedups import Speedups
from video.clip import Clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

EXACT = replace(Speedups(), shared_octree_kv=False, bias_cross_attention=False)
"""The speed-ups that change no bit on a CPU; the other two round differently."""


def call_stock(pipes: Any, mode: Mode, clip: Clip, seed: int) -> NDArray[np.float32]:
    """Upstream's `__call__`: vertices float32 (T, V, 3)."""
    import torch
    from actionmesh.io.video_input import ActionMeshInput

    from upstream.background import to_pictures

    given = ActionMeshInput(
        frames=to_pictures(clip.frames), timesteps=torch.arange(len(clip), dtype=torch.float32)
    )
    meshes = pipes[mode](input=given, seed=seed)
    return np.stack([mesh.vertices for mesh in meshes]).astype(np.float32)


@pytest.mark.parametrize("count", [16, 31])
def test_driver_equals_upstream_bit_for_bit_in_every_mode(
    stock: Any, resident: ActionMeshPipeline, count: int
) -> None:
    clip = tiny.clip_of(count)
    for mode in (*MODES, "default"):
        wanted = call_stock(stock, mode, clip, seed=7)
        made = resident.animate(clip, mode, 7, RecordingReporter())
        assert made.vertices.shape == (count, *wanted.shape[1:])
        assert np.array_equal(made.vertices, wanted)
        assert made.fps == clip.fps


@pytest.mark.parametrize(("count", "alpha"), [(46, True), (61, False)])
@pytest.mark.parametrize("use", [Speedups.none(), EXACT], ids=["stock", "exact speed-ups"])
def test_three_and_four_windows_are_upstreams_bit_for_bit(
    stock: Any, resident: ActionMeshPipeline, count: int, alpha: bool, use: Speedups
) -> None:
    clip, report = tiny.clip_of(count, alpha), RecordingReporter()
    wanted = call_stock(stock, "fast", clip, seed=7)
    ours = on_card(resident, math.inf)
    ours.use = use
    made = ours.animate(clip, "fast", 7, report)
    assert made.vertices.shape == (count, *wanted.shape[1:])
    assert np.array_equal(made.vertices, wanted)
    for stage in ("motion", "decoding"):
        shares = [step / steps for name, step, steps in report.steps if name == stage]
        assert shares == sorted(shares) and shares[-1] == 1.0
        windows = (count - 1) // 15
        assert all(steps % windows == 0 for name, _, steps in report.steps if name == stage)


@pytest.mark.parametrize("count", [17, 30, 45])
def test_frames_that_fill_no_window_are_not_taken(resident: ActionMeshPipeline, count: int) -> None:
    with pytest.raises(ValueError, match=f"{count} frames do not fill windows of 16"):
        resident.animate(tiny.clip_of(count), "fast", 7, RecordingReporter())
