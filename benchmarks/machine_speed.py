"""How slow this machine is now: the time of a fixed piece of work, relative to its usual time.

CPU time of the same work varies threefold between machines, and on a shared machine. Time limits in
tests are meant for a machine of usual speed; tests multiply them by `slowness`, measured in the
same process, just before or after. Limits of wall time use the slowness of `time.monotonic`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np
from scipy.sparse import diags
from scipy.sparse.linalg import splu

USUAL_S = 0.125
"""Time of `fixed_work` on one core of an otherwise idle AMD EPYC."""


def slowness(clock: Callable[[], float] = time.process_time) -> float:
    """1 at usual speed or faster, 2 if the work takes twice the CPU time, or with `time.monotonic`
    twice the wall time.
    """
    start = clock()
    fixed_work()
    return max(1.0, (clock() - start) / USUAL_S)


def fixed_work() -> None:
    """Optical flow and sparse factorisations, as the silhouette pipeline mostly does."""
    chance = np.random.default_rng(1)
    picture = cv2.resize(chance.integers(0, 255, (48, 48), np.uint8), (384, 384))
    moved = np.roll(picture, 5, axis=1)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    side = 50
    rungs = [np.full(side**2 - abs(k), w) for k, w in ((0, 4.1), (1, -1), (-1, -1))]
    far = [np.full(side**2 - side, -1.0)] * 2
    system = diags([*rungs, *far], [0, 1, -1, side, -side], format="csc")
    for _ in range(4):
        flow.calc(picture, moved, None)
        for _ in range(3):
            splu(system).solve(chance.random((side**2, 2)))
