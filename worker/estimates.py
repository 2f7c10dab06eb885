"""How long jobs take here: the median of the last ones in each mode. Keeps nothing on disk.

Until a job of a mode has finished, its time is None. The further a running job is, the more its own
speed counts, and the less the times of other jobs. So that jobs of different lengths tell each
other's times, a job counts as two parts: the stage `shape`, which is repeated for each try, and the
rest, which grows with the frames. A window of ActionMesh is 15 further frames, so that it takes no
unit of its own; the camera and the texture do not grow, so that a longer job ends a little earlier.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from statistics import median
from typing import NamedTuple

from job.state import Job, utc_now

REMEMBERED = 20
"""Jobs per mode: enough for a median, few enough to notice a change of load."""
OWN_SPEED_FROM = 0.15
"""Below this fraction the time of a job is mostly its start."""


class _Took(NamedTuple):
    """Seconds of a finished job: of one first shape, and of the rest for each frame."""

    shape_s: float
    frame_s: float


class Estimates:
    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        self._took: defaultdict[str, deque[_Took]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def learn(
        self, mode: str, took_s: float, frames: int, tries: int = 1, shape_s: float = 0.0
    ) -> None:
        """A finished job: of its `took_s` seconds, `shape_s` went into `tries` first shapes."""
        shape_s = min(shape_s, took_s)  # it may be that of an earlier attempt
        self._took[mode].append(_Took(shape_s / tries, (took_s - shape_s) / frames))

    def typical_s(self, mode: str, frames: int, tries: int = 1) -> float | None:
        """Seconds of a job with so many frames and tries."""
        took = list(self._took.get(mode, ()))
        return median(tries * t.shape_s + frames * t.frame_s for t in took) if took else None

    def frame_s(self, mode: str) -> float | None:
        """Seconds that each further frame takes."""
        took = list(self._took.get(mode, ()))
        return median(t.frame_s for t in took) if took else None

    def remaining_s(self, job: Job) -> float | None:
        """Seconds until a running job is finished; None if nothing is known yet."""
        if job.started_at is None:
            return None
        fraction = job.progress.fraction if job.progress else 0.0
        typical = self._typical_s(job)
        by_others = typical * (1 - fraction) if typical is not None else None
        if fraction < OWN_SPEED_FROM:
            return by_others
        elapsed = max(0.0, (self._clock() - job.started_at).total_seconds())
        by_own_speed = elapsed * (1 - fraction) / fraction
        if by_others is None:
            return by_own_speed
        return fraction * by_own_speed + (1 - fraction) * by_others

    def queue_s(
        self, running: Sequence[Job | None], ahead: Sequence[Job | None], slots: int
    ) -> float | None:
        """Seconds until the last job of `ahead` is finished, where `slots` run side by side.

        Each job goes to the slot that is free first. With None (a deleted job) the time is unknown.
        If more jobs run than there are slots, those with the longest time left count: the others
        are past the part that needs a slot.
        """
        remaining = sorted(self.remaining_s(job) or 0.0 for job in running if job is not None)
        free_in = remaining[-slots:]
        free_in += [0.0] * (slots - len(free_in))
        heapq.heapify(free_in)
        done_s = 0.0
        for job in ahead:
            if job is None:
                return None
            typical = self._typical_s(job)
            if typical is None:
                return None
            done_s = free_in[0] + typical
            heapq.heapreplace(free_in, done_s)
        return done_s

    def _typical_s(self, job: Job) -> float | None:
        options = job.options
        frames = job.input.used_frames if job.input else options.max_frames
        return self.typical_s(options.mode, frames, options.tries)
