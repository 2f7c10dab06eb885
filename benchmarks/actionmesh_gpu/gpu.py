"""The device's clock and memory: wait for it, count what it holds, leave less of it free.

On a CPU the functions do nothing and memory is 0. Used by the parts.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

GB = 1e9


def synchronize(device: str) -> None:
    """Wait until the device has done all that was asked of it."""
    import torch

    if device != "cpu":
        torch.cuda.synchronize(device)


def median_s(device: str, work: Callable[[], Any], runs: int = 3) -> float:
    """Seconds of `work`, after one run that does not count."""
    taken = []
    for _ in range(runs + 1):
        began = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def free(device: str) -> None:
    """Give unused memory back to the device."""
    import torch

    gc.collect()
    if device != "cpu":
        torch.cuda.empty_cache()


def reset_peak(device: str) -> None:
    """Begin to count the peak again."""
    import torch

    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: str) -> tuple[float, float]:
    """The most that this process's tensors took, and that torch reserved for them."""
    import torch

    if device == "cpu":
        return 0.0, 0.0
    tensors = torch.cuda.max_memory_allocated(device) / GB
    return tensors, torch.cuda.max_memory_reserved(device) / GB


def used_gb(device: str) -> float:
    """What all processes together hold of the device."""
    import torch

    if device == "cpu":
        return 0.0
    left, total = torch.cuda.mem_get_info(device)
    return float(total - left) / GB


@contextmanager
def smaller_card(device: str, size_gb: float) -> Iterator[float]:
    """Fill the memory until only `size_gb` are free; gives how many GB that took."""
    import torch

    if device == "cpu":
        yield 0.0
        return
    filled = max(0, torch.cuda.mem_get_info(device)[0] - int(size_gb * GB))
    held = torch.empty(filled, dtype=torch.uint8, device=device)
    try:
        yield filled / GB
    finally:
        del held
        free(device)
