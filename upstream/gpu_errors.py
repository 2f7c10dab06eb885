"""Recognises torch's errors: out of memory, or a failed GPU.

Only classifies exceptions and asks the GPU; actionmesh_wrapper.py and anchor.py handle them.
"""

from __future__ import annotations

_OUT_OF_MEMORY = (
    "CUDA out of memory",  # torch's allocator
    "CUDA error: out of memory",  # the runtime, in an AcceleratorError: streams, kernels, graphs
    "CUDA driver error: out of memory",  # the driver: expandable segments
    "Triton Error [CUDA]: out of memory",  # compiled kernels
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # no memory for a handle; also after a failed kernel
    "CUDNN_STATUS_ALLOC_FAILED",  # cuDNN 8
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",  # cuDNN 9
)

_FAILED = (
    "CUDA error",
    "CUDA driver error",
    "Triton Error [CUDA]",
    "cuDNN error",
    "CUBLAS_STATUS",
    "NVML",
)


def is_out_of_memory(exc: BaseException) -> bool:
    """True if the device ran out of memory; `is_usable` tells whether its context still works."""
    import torch

    if isinstance(exc, torch.OutOfMemoryError):
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and any(sign in text for sign in _OUT_OF_MEMORY)


def is_usable(device: str) -> bool:
    """True if the device still computes. After a failed kernel no CUDA call of the process does.

    Some errors have the same text in both cases, and a kernel fails later than it is called.
    """
    import torch

    try:
        return bool((torch.ones(1, device=device) + 1).item() == 2)
    except torch.OutOfMemoryError:  # other processes have all of it
        return True
    except (RuntimeError, AssertionError):  # the latter from a torch without CUDA
        return False


def is_cuda_failure(exc: BaseException) -> bool:
    """True if a kernel or the driver failed: every later CUDA call of the process will fail too."""
    import torch

    if is_out_of_memory(exc):
        return False
    if isinstance(exc, getattr(torch, "AcceleratorError", ())):  # since torch 2.8
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and any(sign in text for sign in _FAILED)
