"""Executors that run a task in the worker's thread: a second, real implementation of the protocol.

For tests of the worker and the API that need an outcome at once, not a mesh.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace

from errors import NoSubjectFound
from executors.base import PipelineStatus, SlotStatus
from job.task import Event, Failed, Lost, OutputFile, Progress, Result, Stopped, Task

NAMES = ("animated_mesh.glb", "mesh_000.glb", "mesh_001.glb", "meshes.zip", "preview.mp4",
         "poster.webp", "source.mp4")  # fmt: skip

Events = Iterator[Event | None]
"""What `attempt` yields; None: nothing more until the next `poll`."""


class FinishesAtOnce:
    """Writes a few small files and finishes."""

    names: tuple[str, ...] = NAMES
    capacity = 1
    status = PipelineStatus(is_ready=True)
    slot_statuses: tuple[SlotStatus, ...] = ()

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.prefetched: list[str] = []
        self.cancelled: set[str] = set()
        self.running: list[tuple[Task, Events]] = []
        self._woken = threading.Event()

    @property
    def has_room(self) -> bool:
        """True below `capacity`."""
        return len(self.running) < self.capacity

    def start(self) -> None:
        """Nothing to start."""

    def submit(self, task: Task) -> None:
        """It begins with the next `poll`."""
        self.cancelled.discard(task.job_id)
        self.running.append((task, self.attempt(task)))
        self.wake()

    def cancel(self, job_id: str) -> None:
        """From any thread."""
        self.cancelled.add(job_id)
        self.wake()

    def prefetch(self, task: Task) -> None:
        """Only remembers the call."""
        self.prefetched.append(task.job_id)

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """What every running attempt yields, up to its next None or its end."""
        self._woken.wait(timeout_s)
        self._woken.clear()
        events: list[tuple[Task, Event]] = []
        for running in list(self.running):
            task, attempt = running
            try:
                for event in attempt:
                    if event is None:
                        break
                    events.append((task, event))
                else:
                    self.running.remove(running)
            except FileNotFoundError:
                if task.folder.exists():
                    raise
                self.running.remove(running)  # deleted while it ran: as in child/main.py
                events.append((task, Stopped()))
        return events

    def wake(self) -> None:
        """From any thread."""
        self._woken.set()

    def close(self) -> None:
        """Nothing to end."""

    def attempt(self, task: Task) -> Events:
        """One file per usual name; its content says which."""
        self.tasks.append(task)
        task.workspace.mkdir()
        yield Progress("motion", 1, 2, 0.5, "Half way")
        files = []
        for name in self.names:
            content = f"{name} of attempt {task.attempt}\n".encode() * 40
            (task.workspace / name).write_bytes(content)
            files.append(OutputFile(name, len(content), hashlib.sha256(content).hexdigest()))
        yield Result(
            files=tuple(files),
            mesh={"timesteps": 2, "vertices": 8, "faces": 12, "fps": 16.0},
            source={"width": 96, "height": 64, "frames": 16, "fps": 16.0, "used": [0, 1]},
            timings={"motion": 0.01},
        )


class TakesOtherSeconds(FinishesAtOnce):
    """Finishes, and says that it has used the frames from 0.25 s on."""

    def attempt(self, task: Task) -> Events:
        """The same files."""
        for event in super().attempt(task):
            if isinstance(event, Result):
                warning = {"code": "window_only", "message": "Others are used.", "start": 0.25}
                event = replace(event, warnings=(warning,))
            yield event


class LosesWorkers(FinishesAtOnce):
    """Loses `times` attempts as if its process had ended, then finishes.

    `crashes` are the signals of native crashes, "" for an attempt that was lost otherwise.
    """

    def __init__(self, times: int, crashes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.times = times
        self.crashes = iter(crashes)

    def attempt(self, task: Task) -> Events:
        """Leaves an incomplete workspace, as after a real crash."""
        if len(self.tasks) < self.times:
            self.tasks.append(task)
            task.workspace.mkdir()
            (task.workspace / "half").write_bytes(b"x")
            yield Lost("the child ended", next(self.crashes, ""))
        else:
            yield from super().attempt(task)


class FindsNoSubject(FinishesAtOnce):
    """Every video is invalid."""

    def attempt(self, task: Task) -> Events:
        """Fails after the frames were read."""
        yield Progress("extracting", 1, 1, 0.1)
        yield Failed(NoSubjectFound("No subject was found in frame 0.", frame=0))


class WaitsForPermission(FinishesAtOnce):
    """Runs until `permission` is set or the job is cancelled; `started` is set once it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.started = threading.Event()
        self.permission = threading.Event()
        self.closed = threading.Event()

    def attempt(self, task: Task) -> Events:
        """Checks the permission at each poll."""
        yield Progress("shape", 1, 4, 0.25, "Waiting")
        self.started.set()
        while True:
            if task.job_id in self.cancelled:
                yield Stopped()
                return
            if self.closed.is_set():
                yield Lost("closed")
                return
            if self.permission.is_set():
                break
            yield None
        yield from super().attempt(task)

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """At least a hundred times a second: `permission` does not wake it."""
        return super().poll(min(timeout_s, 0.01))

    def close(self) -> None:
        """Running attempts are lost."""
        self.closed.set()
        self.wake()
