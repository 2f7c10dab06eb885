"""Executors that run a task in the worker's thread: a second, real implementation of the seam.

For tests of the worker and the API that need an outcome at once, not a mesh.
"""

from __future__ import annotations

import hashlib
import threading

from errors import Cancelled, NoSubjectFound
from executors.base import UnderWay
from job.task import JobFailed, OutputFile, Progress, Result, Task, WorkerLost

NAMES = ("animated_mesh.glb", "mesh_000.glb", "mesh_001.glb", "meshes.zip", "preview.mp4",
         "poster.webp", "source.mp4")  # fmt: skip


class FinishesAtOnce:
    """Writes a few small files and is done."""

    capacity = 1
    is_ready = True
    is_resting = False
    broken = None
    loading = None

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.expected: list[str] = []
        self._under_way = 0
        self._woken = threading.Event()

    @property
    def has_room(self) -> bool:
        """As much as `capacity` allows."""
        return self._under_way < self.capacity

    def start(self) -> None:
        """Nothing to start."""

    def expect(self, task: Task) -> None:
        """Nothing is done ahead; it is only noted."""
        self.expected.append(task.job_id)

    def wait(self, timeout_s: float) -> None:
        """Until somebody calls, or the time is over."""
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        """From any thread."""
        self._woken.set()

    def close(self) -> None:
        """Nothing to end."""

    def run(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """`attempt`, counted."""
        self._under_way += 1
        try:
            return (yield from self.attempt(task, cancelled))
        finally:
            self._under_way -= 1

    def attempt(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """One file per usual name; its content says which."""
        self.tasks.append(task)
        task.workspace.mkdir()
        yield Progress("motion", 1, 2, 0.5, "Half way")
        files = []
        for name in NAMES:
            content = f"{name} of attempt {task.attempt}\n".encode() * 40
            (task.workspace / name).write_bytes(content)
            files.append(OutputFile(name, len(content), hashlib.sha256(content).hexdigest()))
        return Result(
            files=tuple(files),
            mesh={"timesteps": 2, "vertices": 8, "faces": 12, "fps": 16.0},
            source={"width": 96, "height": 64, "frames": 16, "fps": 16.0, "used": [0, 1]},
            timings={"motion": 0.01},
        )


class LosesWorkers(FinishesAtOnce):
    """Fails `times` times as if its process had died, then finishes."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def attempt(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """Half an attempt stays behind, as after a real crash."""
        if len(self.tasks) < self.times:
            self.tasks.append(task)
            task.workspace.mkdir()
            (task.workspace / "half").write_bytes(b"x")
            raise WorkerLost("the child ended")
        return (yield from super().attempt(task, cancelled))


class FindsNoSubject(FinishesAtOnce):
    """Every video is at fault."""

    def attempt(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """Says so once it has looked."""
        yield Progress("extracting", 1, 1, 0.1)
        raise JobFailed(NoSubjectFound("No subject was found in frame 0.", frame=0))


class WaitsForPermission(FinishesAtOnce):
    """Runs until `permission` is set or the job is cancelled; `started` tells that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.permission = threading.Event()
        self.closed = threading.Event()

    def attempt(self, task: Task, cancelled: threading.Event) -> UnderWay:
        """Looks for the permission whenever the worker does."""
        yield Progress("shape", 1, 4, 0.25, "Waiting")
        self.started.set()
        while not self.permission.is_set():
            if cancelled.is_set():
                raise Cancelled
            if self.closed.is_set():
                raise WorkerLost("closed")
            yield None
        return (yield from super().attempt(task, cancelled))

    def wait(self, timeout_s: float) -> None:
        """A hundred times a second: nobody calls when the permission comes."""
        super().wait(min(timeout_s, 0.01))

    def close(self) -> None:
        """Attempts under way are lost."""
        self.closed.set()
        self.wake()
