"""How long jobs take here: the median of the last ones in each mode. Keeps nothing on disk.

Until a job of a mode has finished, its time is None. The further a running job is, the more its own
speed counts, and the less the times of other jobs. A job with N tries takes N times as long in the
stage `shape`: the time of one try is kept by itself, so that jobs with different tries can be
compared.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import datetime
from statistics import median

from job.state import Job, utc_now

REMEMBERED = 20
"""Jobs per mode: enough for a median, few enough to notice a change of load."""
OWN_SPEED_FROM = 0.15
"""Below this fraction the time of a job is mostly its start."""


class Estimates:
    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        self._clock = clock
        # seconds of each job: those of one try, and the rest
        self._took_s: defaultdict[str, deque[tuple[float, float]]] = defaultdict(
            lambda: deque(maxlen=REMEMBERED)
        )

    def learn(self, mode: str, took_s: float, tries: int = 1, shape_s: float = 0.0) -> None:
        """A finished job: of its `took_s` seconds, `shape_s` went into `tries` first shapes."""
        shape_s = min(shape_s, took_s)  # it may be that of an earlier attempt
        self._took_s[mode].append((shape_s / tries, took_s - shape_s))

    def typical_s(self, mode: str, tries: int = 1) -> float | None:
        took = self._took_s.get(mode)
        if not took:
            return None
        return median([tries * shape_s + rest_s for shape_s, rest_s in list(took)])

    def remaining_s(self, job: Job) -> float | None:
        """Seconds until a running job is finished; None if nothing is known yet."""
        if job.started_at is None:
            return None
        fraction = job.progress.fraction if job.progress else 0.0
        typical = self.typical_s(job.options.mode, job.options.tries)
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
            typical = self.typical_s(job.options.mode, job.options.tries)
            if typical is None:
                return None
            done_s = free_in[0] + typical
            heapq.heapreplace(free_in, done_s)
        return done_s
