"""Compiled blocks: few graphs, the same meshes, and without a compiler the blocks as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from tests.upstream import tiny
from tests.upstream.conftest import loaded, on_card
from tests.upstream.recording_reporter import RecordingReporter
from upstream.compilation import compile_blocks
from upstream.speedups import Speedups

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("default"),
]

PRESET = tiny.PRESETS["fast"]


@pytest.fixture
def pipeline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ActionMeshPipeline]:
    """A pipeline of its own; torch's compiler is as before afterwards."""
    import torch

    torch.compiler.reset()
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with torch._dynamo.config.patch(suppress_errors=False):
        yield loaded(Speedups().beside_compiled_blocks())
    torch.compiler.reset()


def blocks_of(pipeline: ActionMeshPipeline) -> list[Any]:
    assert pipeline.engine is not None
    pipe = pipeline.engine.pipe
    return [*pipe.temporal_3D_denoiser.blocks, *pipe.temporal_3D_vae.blocks]


def test_a_bounded_number_of_graphs_serves_every_job(
    pipeline: ActionMeshPipeline, tmp_path: Path
) -> None:
    graphs: list[int] = []

    def counting(graph: Any, inputs: list[Any]) -> Any:
        del inputs
        graphs.append(len(graph.graph.nodes))
        return graph.forward

    assert pipeline.engine is not None
    assert compile_blocks(pipeline.engine, PRESET, tmp_path, backend=counting)
    assert len(graphs) == 3
    pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter())
    pipeline.animate(tiny.clip_of(31), "default", 1, RecordingReporter(), faces=2000)
    assert len(graphs) == 3
    for _ in range(2):
        pipeline.animate(tiny.clip_of(16), "fast_low_ram", 1, RecordingReporter())
        pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter(), faces=1500)
    for free_gb in (14.0, 8.0):  # weights that wait on the host
        on_card(pipeline, free_gb).animate(tiny.clip_of(16), "fast", 1, RecordingReporter())
    assert len(graphs) == 5


def test_compiled_blocks_give_the_same_job_and_are_kept_on_disk(
    pipeline: ActionMeshPipeline, tmp_path: Path
) -> None:
    clip = tiny.clip_of(16)
    wanted = pipeline.animate(clip, "fast", 3, RecordingReporter())
    assert pipeline.engine is not None
    assert compile_blocks(pipeline.engine, PRESET, tmp_path)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path)
    assert any(tmp_path.rglob("*.py"))
    made = pipeline.animate(clip, "fast", 3, RecordingReporter())
    assert made.vertices.shape == wanted.vertices.shape
    assert np.abs(made.vertices - wanted.vertices).max() < 1e-4


def test_without_a_compiler_the_blocks_run_as_they_are(
    pipeline: ActionMeshPipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = tiny.clip_of(16)
    wanted = pipeline.animate(clip, "fast", 3, RecordingReporter())

    def no_compiler(graph: Any, inputs: list[Any]) -> Any:
        raise OSError("no C compiler")

    assert pipeline.engine is not None
    assert not compile_blocks(pipeline.engine, PRESET, tmp_path, backend=no_compiler)
    assert "cannot be compiled" in caplog.text
    assert all("forward" not in vars(block) for block in blocks_of(pipeline))
    made = pipeline.animate(clip, "fast", 3, RecordingReporter())
    assert np.array_equal(made.vertices, wanted.vertices)
