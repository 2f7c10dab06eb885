"""Waiting for a condition in another process, where no event exists."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(happened: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Check often until it is true; fails after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"did not happen within {timeout_s} s"
        time.sleep(0.02)
