"""The loop of the corpora that are files: make one, read it, look for what is left behind.

Called by videos.py and its neighbours, which say how a file is made and what reads it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.fuzz.findings import Findings
from tests.faults.processes import descendants

SLOWEST_S = 30.0


def run_files(
    findings: Findings,
    count: int,
    make: Callable[[], bytes],
    read: Callable[[Path], str],
    sound: bytes,
) -> Findings:
    """Give `count` files made by `make` to `read`, which returns how it ended.

    A finding is any exception, more than SLOWEST_S, or a process or descriptor left behind. `sound`
    is a file to be read before, so that what reading keeps open once is not counted.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder) / "case"
        path.write_bytes(sound)
        read(path)
        others = descendants(os.getpid())  # of the caller
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(count):
            content = make()
            path.write_bytes(content)
            wrong, how, took_s = _tried(path, read)
            if took_s > SLOWEST_S:  # the machine may have been busy: try again
                wrong, how, took_s = _tried(path, read)
            findings.ended(how, took_s)
            if took_s > SLOWEST_S:
                wrong = f"it took {took_s:.0f} s"
            elif descendants(os.getpid(), besides=others):
                wrong = "a process was left"
            elif len(os.listdir("/proc/self/fd")) > descriptors:
                wrong = "a descriptor was left"
            if wrong:
                findings.keep(content, wrong)
    return findings


def _tried(path: Path, read: Callable[[Path], str]) -> tuple[str, str, float]:
    """The fault found (or empty), the result of `read`, and the seconds it took."""
    began, wrong, how = time.monotonic(), "", "finding"
    try:
        how = read(path)
    except Exception as exc:  # noqa: BLE001 - any exception is a finding
        wrong = f"{type(exc).__name__}: {exc}"
    return wrong, how, time.monotonic() - began
