"""The wrapper's calls of upstream and its reports, with fake packages of the same signatures.

Runs where torch is not installed; where it is, upstream's own code is tested instead.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import Cancelled, GpuError, GpuOutOfMemory, NoSubjectFound
from gpu_memory import plans
from pipeline import ACTIONMESH, MODES, Mode
from tests.upstream import tiny
from tests.upstream.recording_reporter import RecordingReporter
from upstream.engine import Engine, build, read_models
from upstream.speedups import Speedups
from upstream.weights import Folders

FAKE_UPSTREAM = Path(__file__).parent / "fake_upstream"
STAGES = ("background", "shape", "motion", "decoding")

if importlib.util.find_spec("torch") is not None:
    pytest.skip("torch is installed: upstream's own code is tested", allow_module_level=True)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ActionMeshPipeline]:
    """A loaded pipeline with the fake packages, which are unloaded afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FAKE_UPSTREAM))
    folders = Folders(*[tmp_path / name for name in ("actionmesh", "triposg", "dinov2", "rmbg")])
    pipe = build(tmp_path, folders)
    read_models(pipe, lambda *_: None)
    made = ActionMeshPipeline(use=Speedups.none(), device="cpu")
    made.engine = Engine(pipe, "cpu")
    # parameters and swapping of weights are tested with torch
    monkeypatch.setattr(Engine, "tensors", lambda *_: [])
    yield made
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("torch", "PIL", "actionmesh", "triposg"):
            del sys.modules[name]


def seen(pipeline: ActionMeshPipeline) -> list[dict[str, Any]]:
    assert pipeline.engine is not None
    found: list[dict[str, Any]] = pipeline.engine.pipe.seen
    return found


def out_of_memory(times: int) -> list[Exception]:
    import torch

    return [torch.OutOfMemoryError("CUDA out of memory") for _ in range(times)]


@pytest.mark.parametrize("count", [16, 31, 121])
def test_a_clip_becomes_as_many_timesteps(pipeline: ActionMeshPipeline, count: int) -> None:
    report = RecordingReporter()
    made = pipeline.animate(tiny.clip_of(count), "fast", 44, report)
    assert made.vertices.dtype == np.float32 and made.faces.dtype == np.int32
    assert len(made) == count
    assert made.fps == 12.0
    assert len(report.anchors) == 1 and len(report.anchors[0]) == 1


def test_every_parameter_is_set_for_every_job(pipeline: ActionMeshPipeline) -> None:
    order: tuple[Mode, ...] = (*MODES, *reversed(MODES))
    for seed, mode in enumerate(order):
        pipeline.animate(tiny.clip_of(16), mode, seed, RecordingReporter())
    for seed, (mode, job) in enumerate(zip(order, seen(pipeline), strict=True)):
        preset = ACTIONMESH[mode]
        assert job.pop("input") is not None
        assert job == {
            "seed": seed,
            "stage_0_steps": preset.stage_0_steps,
            "stage_1_steps": preset.stage_1_steps,
            "split": preset.low_ram,
            "anchor_idx": 0,
            "subsampling_level": 1,
            "guidance": ([preset.guidance_scale], True),
            "faces": preset.face_decimation,
        }


def test_the_wanted_number_of_triangles_reaches_upstream(pipeline: ActionMeshPipeline) -> None:
    pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter(), faces=5_000)
    pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter())
    usual = ACTIONMESH["fast"].face_decimation
    assert [job["faces"] for job in seen(pipeline)] == [5_000, usual]


def test_progress_names_every_stage_and_never_decreases(pipeline: ActionMeshPipeline) -> None:
    report = RecordingReporter()
    pipeline.animate(tiny.clip_of(31, alpha=False), "fast", 1, report)
    assert tuple(dict.fromkeys(stage for stage, _, _ in report.steps)) == STAGES
    for stage in STAGES:
        shares = [step / steps for name, step, steps in report.steps if name == stage]
        assert shares == sorted(shares) and shares[-1] == 1.0


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_exits_every_torch_context(pipeline: ActionMeshPipeline, stage: str) -> None:
    import torch

    with pytest.raises(Cancelled):
        pipeline.animate(
            tiny.clip_of(16, alpha=False), "fast", 1, RecordingReporter(cancel_in=stage)
        )
    assert torch.modes == []


def test_out_of_memory_gets_a_fresh_input_and_at_last_low_ram(
    pipeline: ActionMeshPipeline,
) -> None:
    assert pipeline.engine is not None
    pipeline.engine.pipe.failures = out_of_memory(len(plans(low_ram=False)) - 1)
    report = RecordingReporter()
    assert len(pipeline.animate(tiny.clip_of(16), "default", 1, report)) == 16
    assert report.warnings == ["low_ram_retry"]
    assert seen(pipeline)[-1]["split"] is True
    assert seen(pipeline)[-1]["stage_1_steps"] == ACTIONMESH["default"].stage_1_steps


def test_unused_memory_is_given_back_after_a_job(
    pipeline: ActionMeshPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes need it: the preview may be drawn on the same GPU."""
    import torch

    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty_cache"))
    report = RecordingReporter()
    monkeypatch.setattr(report, "anchor", lambda *_: calls.append("anchor"))
    for _ in range(2):  # the first one may move weights
        calls.clear()
        pipeline.animate(tiny.clip_of(16), "fast", 1, report)
    assert calls == ["anchor", "empty_cache"]


def test_torchs_errors_become_ours(pipeline: ActionMeshPipeline) -> None:
    assert pipeline.engine is not None
    never_enough = out_of_memory(len(plans(low_ram=False)))
    pipeline.engine.pipe.failures = [*never_enough, RuntimeError("CUDA error: assert")]
    with pytest.raises(GpuOutOfMemory):
        pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter())
    with pytest.raises(GpuError) as caught:
        pipeline.animate(tiny.clip_of(16), "fast", 1, RecordingReporter())
    assert caught.value.facts["sticky"]
    white = np.full((16, 32, 32, 3), 255, np.uint8)
    with pytest.raises(NoSubjectFound, match="frame 1 of the 16"):
        pipeline.animate(tiny.as_clip(white), "fast", 1, RecordingReporter())
