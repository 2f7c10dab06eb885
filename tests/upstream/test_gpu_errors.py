"""Torch's errors, as torch raises them: which mean out of memory, and which a failed GPU."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest

from actionmesh_wrapper import ActionMeshPipeline
from errors import GpuError
from tests.upstream import tiny
from tests.upstream.conftest import on_card
from tests.upstream.recording_reporter import RecordingReporter
from upstream.gpu_errors import is_cuda_failure, is_out_of_memory, is_usable

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

pytestmark = [pytest.mark.filterwarnings("default")]

_ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call."

OUT_OF_MEMORY = [
    ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of"),
    ("AcceleratorError", "CUDA error: out of memory" + _ADVICE),
    ("RuntimeError", "CUDA error: out of memory" + _ADVICE),  # torch before 2.8
    ("RuntimeError", "CUDA driver error: out of memory"),
    ("RuntimeError", "Triton Error [CUDA]: out of memory"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(h)`"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
]

FAILED = [
    ("AcceleratorError", "CUDA error: an illegal memory access was encountered" + _ADVICE),
    ("AcceleratorError", "CUDA error: unspecified launch failure" + _ADVICE),
    ("RuntimeError", "CUDA error: device-side assert triggered" + _ADVICE),
    ("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    ("RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ("RuntimeError", "CUDA driver error: invalid device context"),
    ("RuntimeError", "Triton Error [CUDA]: an illegal memory access was encountered"),
]

OTHERS = [
    ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    ("ValueError", "CUDA out of memory"),
]


def raised(kind: str, text: str) -> Any:
    """An error of torch's class of that name, or of Python's."""
    import torch

    found = {"RuntimeError": RuntimeError, "ValueError": ValueError}.get(kind)
    return (found or getattr(torch, kind))(text)


@pytest.mark.parametrize(("kind", "text"), OUT_OF_MEMORY)
def test_every_form_of_out_of_memory_is_recognised(kind: str, text: str) -> None:
    error = raised(kind, text)
    assert is_out_of_memory(error)
    assert not is_cuda_failure(error)


@pytest.mark.parametrize(("kind", "text"), FAILED)
def test_a_failed_gpu_is_not_taken_for_too_little_memory(kind: str, text: str) -> None:
    error = raised(kind, text)
    assert is_cuda_failure(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(("kind", "text"), OTHERS)
def test_other_errors_are_neither(kind: str, text: str) -> None:
    error = raised(kind, text)
    assert not is_out_of_memory(error)
    assert not is_cuda_failure(error)


def test_a_device_that_does_not_answer_is_not_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert is_usable("cpu")
    if not torch.cuda.is_available():
        assert not is_usable("cuda:0")

    def full(*_: object, **__: object) -> None:
        raise raised(*OUT_OF_MEMORY[0])

    monkeypatch.setattr(torch, "ones", full)
    assert is_usable("cpu")


@pytest.mark.slow
def test_a_gpu_that_fails_while_the_surface_is_extracted_is_no_missing_subject(
    resident: ActionMeshPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TripoSG prints and drops errors of its extraction."""
    import torch
    from triposg import inference_utils

    def fail(*_: object, **__: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(inference_utils.DiffDMC, "__call__", fail)
    with pytest.raises(GpuError) as caught:
        resident.animate(tiny.clip_of(16), "fast", 8, RecordingReporter())
    assert caught.value.facts["sticky"]


@pytest.mark.slow
def test_out_of_memory_before_the_surface_is_extracted_is_tried_again(
    resident: ActionMeshPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TripoSG drops errors of the conversion to float32, too."""
    from triposg import inference_utils

    left = [1]

    class RunsOut(inference_utils.DiffDMC):  # type: ignore[misc]
        def __init__(self, dtype: Any = None) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise raised(*OUT_OF_MEMORY[0])
            super().__init__(dtype)

    monkeypatch.setattr(inference_utils, "DiffDMC", RunsOut)
    card = on_card(resident, math.inf)
    card.animate(tiny.clip_of(16), "fast", 8, RecordingReporter())
    assert left[0] < 0
    assert card.engine is not None and card.engine.placement == "parked"
