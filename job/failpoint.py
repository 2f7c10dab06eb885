"""Named steps at which fault tests kill the process, as kill -9 would. Inert without CRASH_AT."""

from __future__ import annotations

import itertools
import os
import signal

_times_reached = itertools.count(1)


def reach(step: str) -> None:
    """Die here, as by kill -9, if CRASH_AT names this step; `step#3`: at the third time.

    Inert unless that is set.
    """
    wanted, _, times = os.environ.get("CRASH_AT", "").partition("#")
    if wanted == step and next(_times_reached) == int(times or 1):
        os.kill(os.getpid(), signal.SIGKILL)
