"""The precision and the attention kernels of stages I and II on this device.

driver.py runs both stages inside `mixed_precision`. If cuDNN refuses an attention, then
actionmesh_wrapper.py runs the job again without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from upstream.gpu_errors import is_out_of_memory

BFLOAT16_FROM = (8, 0)
"""Compute capability of Ampere: older GPUs emulate bfloat16, and only torch's plain attention takes
it there, whose matrix has 34 GB in stage I."""
CUDNN_FROM = (9, 0)
"""Compute capability of Hopper: from here on cuDNN's attention is faster than FlashAttention-2."""


@contextmanager
def mixed_precision(device: str, dtype: Any, prefer_cudnn: bool) -> Iterator[None]:
    """Autocast as upstream does it; with `prefer_cudnn` in our order of attention kernels.

    Only around stages: upstream's attention cannot be built without flash kernels.
    """
    import torch

    order = kernels_by_priority(capability_of(device)) if prefer_cudnn else None
    with torch.autocast(device_type="cuda", dtype=dtype), _preferring(order):
        yield


def half_type(capability: tuple[int, int] | None) -> Any:
    """The 16-bit type of both stages: bfloat16, upstream's default, or float16 on older GPUs.

    Upstream's notebook also takes float16 on a T4.
    """
    import torch

    is_old = capability is not None and capability < BFLOAT16_FROM
    return torch.float16 if is_old else torch.bfloat16


def capability_of(device: str) -> tuple[int, int] | None:
    """The GPU's compute capability; None for a CPU."""
    import torch

    return torch.cuda.get_device_capability(device) if device.startswith("cuda") else None


def kernels_by_priority(capability: tuple[int, int] | None) -> list[Any] | None:
    """The attention kernels to try, in order; None leaves the choice to torch.

    Torch's own order suits older GPUs: FlashAttention-2 from capability 8.0 on, the
    memory-efficient kernel below (T4, RTX 20), which takes float16 there and no bfloat16.
    """
    if capability is None or capability < CUDNN_FROM:
        return None
    from torch.nn.attention import SDPBackend

    return [
        SDPBackend.CUDNN_ATTENTION,
        SDPBackend.FLASH_ATTENTION,
        SDPBackend.EFFICIENT_ATTENTION,
        SDPBackend.MATH,
    ]


def is_cudnn_refusal(exc: BaseException) -> bool:
    """True if cuDNN has no plan for an attention. The GPU still works, and so do other kernels."""
    text = str(exc)
    return (
        isinstance(exc, RuntimeError)
        and not is_out_of_memory(exc)
        and ("cuDNN Frontend error" in text or "execution plan" in text.lower())
    )


def _preferring(order: list[Any] | None) -> AbstractContextManager[None]:
    if order is None:
        return nullcontext()
    from torch.nn.attention import sdpa_kernel

    chosen: AbstractContextManager[None] = sdpa_kernel(order, set_priority=True)
    return chosen
