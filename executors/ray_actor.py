"""What runs on a node of the cluster: a LocalExecutor of its own, behind four plain methods.

executors/ray.py makes Ray actors of this class; nothing here knows Ray. Videos come in and output
files go out as bytes, so that the nodes share no folder with the server. One thread of ours owns
the LocalExecutor: Linux ends a child with the thread that started it, and Ray's come and go.
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
from typing import Any

import logs
from errors import Cancelled, InternalError
from executors.base import run_to_end
from executors.child_process import ChildOptions
from executors.local import LocalExecutor
from job.task import JobFailed, Progress, Result, Task, WorkerLost

log = logging.getLogger(__name__)

REST_EVERY_S = 1.0
_FOLDER = "actionmesh_ray_"

Key = tuple[str, int]
"""Job id and attempt: what is under way, and what a cancel means."""


@dataclass
class _Errand:
    """One task on its way through the thread."""

    task: Task
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    progress: Progress | None = None
    anchor_told: bool = False
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return (self.task.job_id, self.task.attempt)


class RayActor:
    """Runs one task at a time; `look` and `cancel` answer meanwhile, from threads of their own."""

    def __init__(self, options: ChildOptions) -> None:
        logs.configure(options.log_format)
        _remove_what_the_dead_left()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{os.getpid()}_"))
        self._local = LocalExecutor(options)
        self._errands: queue.Queue[_Errand] = queue.Queue()
        self._errand: _Errand | None = None
        self._last_cancel: Key | None = None
        threading.Thread(target=self._repeat, name="worker", daemon=True).start()

    def run(self, record: Mapping[str, Any], inputs: Mapping[str, bytes]) -> dict[str, Any]:
        """One attempt, as a record: `is` says how it ended, `progress` how far it came.

        finished: `result`, and `files` (bytes by name). failed: `error`. lost: `reason`. cancelled.
        """
        folder = self._folder / str(record["job_id"])
        errand = _Errand(replace(Task.from_dict(record), folder=folder))
        try:
            folder.mkdir(mode=0o700)
            for name, content in inputs.items():
                (folder / name).write_bytes(content)
            self._errand = errand
            if self._last_cancel == errand.key:  # it overtook the video
                errand.cancelled.set()
            self._errands.put(errand)
            errand.ended.wait()
            if errand.progress is not None:
                errand.outcome["progress"] = errand.progress.to_dict()
            return errand.outcome
        except OSError as exc:
            log.exception("the node's disk failed")
            return {"is": "lost", "reason": f"the node's disk failed: {exc.strerror}"}
        finally:
            self._errand = None
            shutil.rmtree(folder, ignore_errors=True)

    def look(self) -> dict[str, Any]:
        """How it stands. The anchor mesh comes along once, as soon as it is there."""
        broken, errand = self._local.broken, self._errand
        seen: dict[str, Any] = {
            "pid": os.getpid(),
            "key": errand.key if errand else None,
            "is_ready": self._local.is_ready,
            "is_resting": self._local.is_resting,
            "loading": self._local.loading,
            "broken": broken.to_dict() if broken else None,
        }
        if errand is not None and errand.progress is not None:
            seen["progress"] = errand.progress.to_dict()
            if errand.progress.has_anchor and not errand.anchor_told:
                seen["anchor"] = (errand.task.workspace / "anchor.glb").read_bytes()
                errand.anchor_told = True
        return seen

    def cancel(self, key: Key) -> None:
        """Stop that attempt; nothing happens if it is over, or another."""
        self._last_cancel = key
        errand = self._errand
        if errand is not None and errand.key == key:
            errand.cancelled.set()
            self._local.wake()

    # --- the thread that owns the child

    def _repeat(self) -> None:
        self._local.start()
        while True:
            try:
                errand = self._errands.get(timeout=REST_EVERY_S)
            except queue.Empty:
                self._local.wait(0.0)
                continue
            with logs.bound_to_job(errand.task.job_id):
                errand.outcome = self._outcome(errand)
            errand.ended.set()

    def _outcome(self, errand: _Errand) -> dict[str, Any]:
        def note(progress: Progress) -> None:
            errand.progress = progress

        try:
            result = run_to_end(self._local, errand.task, note, errand.cancelled)
            files = _read(result, errand.task.workspace)
            return {"is": "finished", "result": result.to_dict(), "files": files}
        except Cancelled:
            return {"is": "cancelled"}
        except JobFailed as failure:
            return {"is": "failed", "error": failure.error.to_dict()}
        except (WorkerLost, OSError) as lost:
            log.error("the attempt is lost: %s", lost)
            return {"is": "lost", "reason": str(lost)}
        except Exception:
            log.exception("a bug of ours ended the job")
            return {"is": "failed", "error": InternalError().to_dict()}


def _read(result: Result, workspace: Path) -> dict[str, bytes]:
    return {file.name: (workspace / file.name).read_bytes() for file in result.files}


def _remove_what_the_dead_left() -> None:
    """Folders of actors that were killed on this node."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        pid = folder.name.removeprefix(_FOLDER).partition("_")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)
