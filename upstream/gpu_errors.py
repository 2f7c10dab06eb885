"""Recognises torch's errors: out of memory, or a failed GPU.

Only classifies exceptions; actionmesh_wrapper.py and anchor.py handle them.
"""

from __future__ import annotations


def is_out_of_memory(exc: BaseException) -> bool:
    """True if the device ran out of memory. The process and its CUDA context still work."""
    import torch

    if isinstance(exc, torch.OutOfMemoryError):
        return True
    # cuBLAS and cuDNN report a failed allocation of their own as a plain RuntimeError
    text = str(exc)
    return isinstance(exc, RuntimeError) and (
        "CUDA out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text
    )


def is_cuda_failure(exc: BaseException) -> bool:
    """True if a kernel or the driver failed: every later CUDA call of the process will fail too."""
    import torch

    if is_out_of_memory(exc):
        return False
    if isinstance(exc, getattr(torch, "AcceleratorError", ())):  # since torch 2.8
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and any(
        sign in text for sign in ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NVML")
    )
