"""The precision and the attention kernels of stages I and II on this device.

driver.py and compilation.py run both stages inside `mixed_precision`. If cuDNN refuses an
attention, then actionmesh_wrapper.py runs the job again without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from upstream.gpu_errors import is_out_of_memory

BFLOAT16_FROM = (8, 0)
"""Compute capability of Ampere: older GPUs emulate bfloat16, and only torch's plain attention takes
it there, whose matrix has 34 GB in stage I."""


@contextmanager
def mixed_precision(dtype: Any, without_cudnn: bool) -> Iterator[None]:
    """Autocast as upstream does it.

    Torch chooses the attention kernels: on Hopper cuDNN's (30 ms in stage I, FlashAttention-2's
    takes 48), FlashAttention-2 from Ampere on, and the memory-efficient one on older GPUs, which
    takes float16 there. Where cuDNN refuses, `without_cudnn` leaves it out.

    Only around stages: upstream's attention cannot be built without flash kernels.
    """
    import torch

    kernels = other_kernels() if without_cudnn else nullcontext()
    with torch.autocast(device_type="cuda", dtype=dtype), kernels:
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


def is_cudnn_refusal(exc: BaseException) -> bool:
    """True if cuDNN has no plan for an attention. The GPU still works, and so do other kernels."""
    text = str(exc)
    return (
        isinstance(exc, RuntimeError)
        and not is_out_of_memory(exc)
        and ("cuDNN Frontend error" in text or "execution plan" in text.lower())
    )


def other_kernels() -> AbstractContextManager[None]:
    """Inside it attention uses any kernel but cuDNN's."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    chosen: AbstractContextManager[None] = sdpa_kernel(others)
    return chosen
