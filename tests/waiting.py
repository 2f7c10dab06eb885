"""Waiting for what happens in another process, where no event can be had."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Look often until it has happened; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"did not happen within {timeout_s} s"
        time.sleep(0.02)
