"""Notes in the checkpoint that an attempt is in its appearance step, until that step ends.

Native code in it may end the process. The note shows that afterwards: such a crash is not blamed on
the input, and a job's last attempt leaves the step out. child/appearance.py writes it;
worker/attempt.py asks about attempts that were lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from job import failpoint
from job.task import MAX_ATTEMPTS, Task


class EndedBefore(Exception):
    """A process ended in the step, and this is the job's last attempt."""


@contextmanager
def noted(task: Task) -> Iterator[None]:
    """The step is inside. Raises EndedBefore if it must be left out, and OSError."""
    note = _note(task)
    if task.attempt >= MAX_ATTEMPTS and note.exists():
        raise EndedBefore("a process ended in the appearance step; it is left out")
    with open(note, "a") as file:  # no fsync: it need not survive the machine
        file.write(f"{task.attempt}\n")
    failpoint.reach("appearance:begun")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def was_lost_in_it(task: Task) -> bool:
    """True if the process of this attempt ended in the step."""
    try:
        return str(task.attempt) in _note(task).read_text().split()
    except OSError:
        return False


def _note(task: Task) -> Path:
    return task.checkpoint / "appearance_begun"
