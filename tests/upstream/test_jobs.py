"""A loaded pipeline over many jobs: they do not affect each other, and failures are mapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import (
    Cancelled,
    GpuError,
    NoSubjectFound,
    VideoTooShort,
    WeightsUnavailable,
)
from gpu_memory import PARTS
from settings import Settings
from tests.upstream import tiny
from tests.upstream.conftest import addresses, failing, loaded, on_card
from tests.upstream.huggingface_server import safetensors
from tests.upstream.recording_reporter import RecordingReporter
from upstream.speedups import Speedups

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("default"),
]

STAGES = ("background", "shape", "motion", "decoding")


def test_a_seed_gives_the_same_meshes_whatever_ran_before(resident: ActionMeshPipeline) -> None:
    clip = tiny.clip_of(16)
    first = resident.animate(clip, "fast", 1, RecordingReporter())
    other = resident.animate(tiny.clip_of(16, alpha=False), "default", 2, RecordingReporter())
    again = resident.animate(clip, "fast", 1, RecordingReporter())
    assert np.array_equal(first.vertices, again.vertices)
    assert other.vertices.shape != first.vertices.shape or (other.vertices != first.vertices).any()


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_in_any_stage_does_not_change_the_next_job(
    resident: ActionMeshPipeline, stage: str
) -> None:
    import torch

    clip = tiny.clip_of(16, alpha=False)
    card = on_card(resident, 9.0)  # where every part waits on the host
    wanted = card.animate(clip, "fast_low_ram", 3, RecordingReporter())
    held = [addresses(card, part) for part in PARTS]
    with pytest.raises(Cancelled):
        card.animate(clip, "fast_low_ram", 3, RecordingReporter(cancel_in=stage))
    assert not torch.is_inference_mode_enabled()
    assert [addresses(card, part) for part in PARTS] == held
    made = card.animate(clip, "fast_low_ram", 3, RecordingReporter())
    assert np.array_equal(made.vertices, wanted.vertices)


def test_progress_names_every_stage_in_order_and_never_decreases(
    resident: ActionMeshPipeline,
) -> None:
    report = RecordingReporter()
    resident.animate(tiny.clip_of(31, alpha=False), "fast", 4, report)
    assert tuple(dict.fromkeys(stage for stage, _, _ in report.steps)) == STAGES
    assert set(resident.shares) == set(STAGES)
    for stage in STAGES:
        shares = [step / steps for name, step, steps in report.steps if name == stage]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_the_anchor_is_shown_before_anything_moves(resident: ActionMeshPipeline) -> None:
    report = RecordingReporter()
    made = resident.animate(tiny.clip_of(16), "fast", 5, report)
    assert len(report.anchors) == 1
    assert np.array_equal(report.anchors[0].vertices[0], made.vertices[0])
    assert all(stage != "motion" for stage, _, _ in report.steps[: report.anchor_after])


def test_a_frame_without_a_subject_is_named(resident: ActionMeshPipeline) -> None:
    frames = tiny.clip_of(16).frames.copy()
    frames[5, ..., 3] = 0
    frames[5, ..., :3] = 255
    with pytest.raises(NoSubjectFound, match="frame 6 of the 16") as caught:
        resident.animate(tiny.as_clip(frames), "fast", 6, RecordingReporter())
    assert caught.value.facts["frame"] == 6


@pytest.mark.parametrize("octree_depth", [tiny.OCTREE_DEPTH, 7])
def test_a_shape_without_a_surface_raises_no_subject_found(
    resident: ActionMeshPipeline, monkeypatch: pytest.MonkeyPatch, octree_depth: int
) -> None:
    """Upstream fails in other places where its octree has one grid, and two or more."""
    import torch

    assert resident.engine is not None
    monkeypatch.setattr(resident.engine, "octree_depth", octree_depth)
    bias = resident.engine.pipe.image_to_3d_pipe.vae.decoder.proj_out.bias
    kept = bias.data.clone()
    bias.data += 1e3 * torch.ones_like(bias)
    try:
        with pytest.raises(NoSubjectFound, match="No closed shape"):
            resident.animate(tiny.clip_of(16), "fast", 6, RecordingReporter())
    finally:
        bias.data.copy_(kept)


@pytest.mark.parametrize("count", [15, 20])
def test_only_16_or_31_frames_are_taken(resident: ActionMeshPipeline, count: int) -> None:
    with pytest.raises(VideoTooShort if count < 16 else ValueError, match=str(count)):
        resident.animate(tiny.clip_of(count), "fast", 6, RecordingReporter())


def test_a_cuda_failure_is_marked_sticky(resident: ActionMeshPipeline) -> None:
    hook = failing(resident, 1, RuntimeError("CUDA error: an illegal memory access"))
    try:
        with pytest.raises(GpuError) as caught:
            resident.animate(tiny.clip_of(16), "fast", 8, RecordingReporter())
    finally:
        hook.remove()
    assert caught.value.facts["sticky"]


@pytest.mark.parametrize("content", [safetensors(3000), b"\x10\0\0\0\0\0\0\0not a header {{"])
def test_weights_of_another_model_or_none_are_named(cache: Path, content: bytes) -> None:
    weights = tiny.snapshot(cache, "facebook/ActionMesh") / "denoiser" / "model.safetensors"
    kept = weights.rename(weights.with_suffix(".kept"))  # loaded models map it
    weights.write_bytes(content)
    try:
        with pytest.raises(WeightsUnavailable, match="denoiser|facebook/ActionMesh") as caught:
            loaded(Speedups.none())
    finally:
        kept.rename(weights)
    assert caught.value.hint


def test_without_a_gpu_loading_says_what_to_do(cache: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(GpuError) as caught:
        ActionMeshPipeline(Settings()).load(RecordingReporter())
    assert "PIPELINE=silhouette" in caught.value.hint
    assert "torch finds none: " in caught.value.message


def test_the_default_speedups_give_the_same_job_within_rounding(
    resident: ActionMeshPipeline,
) -> None:
    fast, report = loaded(Speedups()), RecordingReporter()
    clip = tiny.clip_of(16, alpha=False)
    wanted = resident.animate(clip, "default", 9, RecordingReporter())
    made = fast.animate(clip, "default", 9, report)
    assert len(report.anchors) == 1
    assert made.vertices.shape == wanted.vertices.shape
    assert np.abs(made.vertices - wanted.vertices).max() < 1e-4


@pytest.mark.parametrize(("width", "height"), [(640, 64), (64, 640), (1000, 40), (33, 17)])
def test_frames_of_any_sides_become_a_mesh(
    resident: ActionMeshPipeline, width: int, height: int
) -> None:
    """Upstream pads the subject to a square: wide and tall frames need nothing of ours."""
    subject = tiny.clip_of(16, size=min(width, height)).frames
    rows, columns = (side - min(width, height) for side in (height, width))
    around = ((0, 0), (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    made = resident.animate(tiny.as_clip(np.pad(subject, around)), "fast", 7, RecordingReporter())
    assert len(made.vertices) == 16 and np.isfinite(made.vertices).all()
