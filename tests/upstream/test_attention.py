"""The 16-bit type of each card, and what happens where cuDNN refuses an attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.upstream import tiny
from tests.upstream.conftest import loaded
from tests.upstream.recording_reporter import RecordingReporter
from upstream.attention import half_type, is_cudnn_refusal
from upstream.speedups import Speedups

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

REFUSAL = "cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph."


@pytest.mark.parametrize(
    ("capability", "kind"),
    [(None, "bfloat16"), ((7, 5), "float16"), ((8, 0), "bfloat16"), ((12, 0), "bfloat16")],
)
def test_a_gpu_without_attention_in_bfloat16_computes_in_float16(
    opened: Any, capability: tuple[int, int] | None, kind: str
) -> None:
    import torch

    assert half_type(capability) == getattr(torch, kind)


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        (REFUSAL, True),
        ("No valid execution plans built.", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
        ("cuDNN Frontend error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", False),
    ],
)
def test_a_refusal_is_told_apart_from_a_failed_gpu(
    opened: Any, text: str, is_refusal: bool
) -> None:
    assert is_cudnn_refusal(RuntimeError(text)) is is_refusal
    assert not is_cudnn_refusal(ValueError(text))


@pytest.mark.timeout(600)
def test_a_job_that_cudnn_refuses_is_done_without_it_and_so_are_the_next(cache: Any) -> None:
    import torch

    pipeline = loaded(Speedups())
    assert pipeline.engine is not None
    clip = tiny.clip_of(16)
    wanted = pipeline.animate(clip, "fast", 8, RecordingReporter())
    refusals: list[int] = []

    def refuse(*_: object) -> None:
        if torch.backends.cuda.cudnn_sdp_enabled():  # as cuDNN would, were it asked
            refusals.append(1)
            raise RuntimeError(REFUSAL)

    block = pipeline.engine.pipe.temporal_3D_denoiser.blocks[0]
    hook = block.register_forward_pre_hook(refuse)
    report = RecordingReporter()
    try:
        made = pipeline.animate(clip, "fast", 8, report)
        pipeline.animate(clip, "fast", 8, RecordingReporter())
    finally:
        hook.remove()
    assert len(refusals) == 1
    assert report.warnings == []
    assert np.array_equal(made.vertices, wanted.vertices)
