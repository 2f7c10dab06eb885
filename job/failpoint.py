"""Named steps at which fault tests end the process. They do nothing unless CRASH_AT is set."""

from __future__ import annotations

import itertools
import os
import signal

_times_reached = itertools.count(1)


def reach(step: str) -> None:
    """Kill this process if CRASH_AT names this step; `step#3` means the third time.

    CRASH_SIGNAL names another signal than SIGKILL.
    """
    wanted, _, times = os.environ.get("CRASH_AT", "").partition("#")
    if wanted == step and next(_times_reached) == int(times or 1):
        name = os.environ.get("CRASH_SIGNAL", "SIGKILL")
        os.kill(os.getpid(), signal.Signals[name])
