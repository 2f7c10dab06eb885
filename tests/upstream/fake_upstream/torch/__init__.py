"""The part of torch that the driver itself uses, with numpy arrays."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

float32, bfloat16 = np.float32, "bfloat16"
modes: list[str] = []


class OutOfMemoryError(RuntimeError):
    """As torch's."""


class Generator:
    """Remembers its seed."""

    def __init__(self, device: Any = None) -> None:
        self.seed = 0

    def manual_seed(self, seed: int) -> Generator:
        """Like torch's: returns itself."""
        self.seed = seed
        return self


def device(name: str) -> str:
    """Only its name is used."""
    return name


def arange(count: int, dtype: Any = None) -> Any:
    """As torch's."""
    return np.arange(count, dtype=dtype)


def ones(count: int, device: Any = None) -> Any:
    """As torch's."""
    return np.ones(count)


@contextmanager
def inference_mode(mode: bool = True) -> Any:
    """Counts, so that a test sees whether it was exited."""
    if not mode:
        yield
        return
    modes.append("inference")
    try:
        yield
    finally:
        modes.remove("inference")


@contextmanager
def autocast(device_type: str, dtype: Any = None) -> Any:
    """Keeps count."""
    modes.append("autocast")
    try:
        yield
    finally:
        modes.remove("autocast")


cuda = SimpleNamespace(is_available=lambda: False, empty_cache=lambda: None)
