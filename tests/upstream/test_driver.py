"""Our driver against upstream's own call, with upstream's real code and tiny random weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from actionmesh_wrapper import ActionMeshPipeline
from pipeline import MODES, Mode
from tests.upstream import tiny
from tests.upstream.recording_reporter import RecordingReporter
from video.clip import Clip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]


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
