"""Executors that run a task in the caller's thread: a second, real implementation of the seam.

For tests of the worker and the API that need an outcome at once, not a mesh.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable

from errors import Cancelled, NoSubjectFound
from executors.base import JobFailed, OutputFile, Progress, Result, Task, WorkerLost

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

    def start(self) -> None:
        """Nothing to start."""

    def rest(self) -> None:
        """Nothing to give back."""

    def close(self) -> None:
        """Nothing to end."""

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """One file per usual name; its content says which."""
        self.tasks.append(task)
        task.workspace.mkdir()
        on_progress(Progress("motion", 1, 2, 0.5, "Half way"))
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

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """Half an attempt stays behind, as after a real crash."""
        if len(self.tasks) < self.times:
            self.tasks.append(task)
            task.workspace.mkdir()
            (task.workspace / "half").write_bytes(b"x")
            raise WorkerLost("the child ended")
        return super().run(task, on_progress, cancelled)


class FindsNoSubject(FinishesAtOnce):
    """Every video is at fault."""

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """Raises at once."""
        raise JobFailed(NoSubjectFound("No subject was found in frame 0.", frame=0))


class WaitsForPermission(FinishesAtOnce):
    """Runs until `permission` is set or the job is cancelled; `started` tells that it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.permission = threading.Event()
        self.closed = threading.Event()

    def run(
        self, task: Task, on_progress: Callable[[Progress], None], cancelled: threading.Event
    ) -> Result:
        """Looks for cancel and close a hundred times a second."""
        on_progress(Progress("shape", 1, 4, 0.25, "Waiting"))
        self.started.set()
        while not self.permission.wait(0.01):
            if cancelled.is_set():
                raise Cancelled
            if self.closed.is_set():
                raise WorkerLost("closed")
        return super().run(task, on_progress, cancelled)

    def close(self) -> None:
        """A run under way is lost."""
        self.closed.set()
