"""What runs on a node of the cluster: a LocalExecutor, used through three plain methods.

executors/ray.py makes Ray actors of this class; nothing here knows Ray. Videos come in and output
files go out as bytes, so that the nodes share no folder with the server. One permanent thread owns
the LocalExecutor: Linux ends a child with the thread that started it, and Ray's threads may end.
"""

from __future__ import annotations

import logging
import os
import queue
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from errors import InternalError
from executors.base import ExecutorOptions, PipelineStatus, run_to_end
from executors.local import LocalExecutor
from job import logs
from job.task import EARLY_FILES, TRIED, Failed, Lost, Outcome, Progress, Result, Task

log = logging.getLogger(__name__)

IDLE_POLL_S = 1.0
_FOLDER = "actionmesh_ray_"

AttemptKey = tuple[str, int]
"""Job id and number of the attempt."""


@dataclass(frozen=True)
class ActorStatus(PipelineStatus):
    """What an actor does now; `files` are the early ones that it has not sent yet."""

    pid: int = 0
    key: AttemptKey | None = None
    progress: Progress | None = None
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class ActorAnswer:
    """How an attempt ended, its last progress, and if it finished its files by name."""

    outcome: Outcome
    progress: Progress | None = None
    files: dict[str, bytes] = field(default_factory=dict)


class RayActor:
    """Runs one task at a time; `status` and `cancel` answer meanwhile, from other threads."""

    def __init__(self, options: ExecutorOptions) -> None:
        logs.configure(options.child.log_format)
        _remove_folders_of_killed_actors()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}_"))
        blender_path = os.environ.get("BLENDER_PATH", "")  # the node's
        child = replace(options.child, blender_path=blender_path)
        self._local = LocalExecutor(replace(options, child=child))
        self._tasks: queue.Queue[Task] = queue.Queue()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()
        self._task: Task | None = None
        self._progress: Progress | None = None
        self._sent: set[str] = set()
        self._last_cancel: AttemptKey | None = None
        threading.Thread(target=self._run_tasks, name="worker", daemon=True).start()

    def run(self, task: Task, inputs: Mapping[str, bytes]) -> ActorAnswer:
        """One attempt; `inputs` are the client's files by name."""
        task = replace(task, folder=self._folder / task.job_id)
        try:
            task.folder.mkdir(mode=0o700)
            for name, content in inputs.items():
                (task.folder / name).write_bytes(content)
            self._progress, self._sent, self._task = None, set(), task
            self._tasks.put(task)
            outcome = self._outcomes.get()
            made = outcome.files if isinstance(outcome, Result) else ()
            files = {file.name: (task.workspace / file.name).read_bytes() for file in made}
            return ActorAnswer(outcome, self._progress, files)
        except OSError as exc:
            log.exception("the node's disk failed")
            return ActorAnswer(Lost(f"the node's disk failed: {exc.strerror}"))
        finally:
            self._task = None
            shutil.rmtree(task.folder, ignore_errors=True)

    def status(self) -> ActorStatus:
        """What the actor does now. Each early file is included once, as soon as it exists."""
        status = ActorStatus(**vars(self._local.status), pid=os.getpid())
        task, progress = self._task, self._progress
        if task is None:
            return status
        ready = () if progress is None else progress.ready
        early = (*EARLY_FILES, *TRIED)
        new = [name for name in early if name in ready and name not in self._sent]
        files = {name: (task.workspace / name).read_bytes() for name in new}
        self._sent.update(new)
        return replace(status, key=_key(task), progress=progress, files=files)

    def cancel(self, key: AttemptKey) -> None:
        """Stop that attempt, even if it has not started; nothing happens if it has ended."""
        self._last_cancel = key
        self._local.wake()

    # --- the thread that owns the child

    def _run_tasks(self) -> None:
        self._local.start()
        while True:
            try:
                task = self._tasks.get(timeout=IDLE_POLL_S)
            except queue.Empty:
                self._check_idle_child()
                continue
            with logs.bound_to_job(task.job_id):
                self._outcomes.put(self._outcome(task))

    def _check_idle_child(self) -> None:
        try:
            self._local.poll(0.0)
        except Exception:  # the thread must go on: `run` waits for its outcomes
            log.exception("the idle child cannot be checked")

    def _outcome(self, task: Task) -> Outcome:
        def note(progress: Progress) -> None:
            self._progress = progress

        try:
            outcome = run_to_end(self._local, task, note, lambda: self._last_cancel == _key(task))
        except Exception:
            log.exception("a bug in the server ended the job")
            self._local.cancel(task.job_id)
            return Failed(InternalError())
        if isinstance(outcome, Lost):
            log.error("the attempt is lost: %s", outcome.reason)
        return outcome


def _key(task: Task) -> AttemptKey:
    return task.job_id, task.attempt


def _remove_folders_of_killed_actors() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        pid = folder.name.removeprefix(_FOLDER).partition("_")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
