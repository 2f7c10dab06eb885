"""Which of the errors that torch raises are about memory, and which mean that the GPU is lost.

Looks at exceptions only; what follows from them is the wrapper's business.
"""

from __future__ import annotations


def is_out_of_memory(exc: BaseException) -> bool:
    """The device's memory did not suffice. The process and its CUDA context are unharmed."""
    import torch

    if isinstance(exc, torch.OutOfMemoryError):
        return True
    # cuBLAS and cuDNN report a failed allocation of their own as a plain RuntimeError
    text = str(exc)
    return isinstance(exc, RuntimeError) and (
        "CUDA out of memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text
    )


def is_cuda_failure(exc: BaseException) -> bool:
    """A kernel or the driver failed: such errors are sticky, no later CUDA call will succeed."""
    import torch

    if is_out_of_memory(exc):
        return False
    kind = getattr(torch, "AcceleratorError", None)  # since torch 2.8
    if kind is not None and isinstance(exc, kind):
        return True
    text = str(exc)
    return isinstance(exc, RuntimeError) and any(
        sign in text for sign in ("CUDA error", "cuDNN error", "CUBLAS_STATUS", "NVML")
    )
