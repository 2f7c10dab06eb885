"""The child's main: one process that loads the pipeline once and runs one task after another.

Without a pipeline it computes no meshes: it exports those that another child computed.

Started by path by executors/child_process.py, never imported. JSON lines come in on stdin and go
out on the original stdout; anything that libraries print goes to stderr, for the parent's log. It
ends when stdin closes, when the parent ends, or when it is killed; INT and TERM are ignored.

in:   {"do": "configure", "config": ChildConfig} comes first, once
      {"do": "run", "task": Task}, or only a part of it: "compute", "export"   {"do": "cancel"}
      {"do": "prefetch", "task": Task} (it is probably computed next)
out:  {"is": "ready", "pid", "gpu": Gpu or null}   {"is": "loading", "done_bytes", "total_bytes"}
      {"is": "progress", ...}   {"is": "computed"} (the checkpoint is on disk)
      {"is": "finished", "result"}   {"is": "failed", "error"}
      {"is": "cancelled"}   {"is": "broken", "error"} (the pipeline cannot be loaded; it exits)
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import json
import logging
import os
import queue
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from child.recipe import Recipe
    from job.task import Task

log = logging.getLogger("child")

ROOT = str(Path(__file__).resolve().parent.parent)

EXIT_UNUSABLE = 70
"""The GPU's context is lost, or memory ran out: the parent starts a new child and retries."""


class ParentConnection:
    """The two pipes. `send` may be called from any thread."""

    def __init__(self) -> None:
        """Keep both for the messages: stdin is empty from now on, printed text goes to stderr."""
        self.tasks: queue.Queue[dict[str, Any]] = queue.Queue()
        self.cancelled = threading.Event()
        self.incoming = os.fdopen(os.dup(0), "r", encoding="utf-8")
        self._outgoing = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._sending = threading.Lock()
        with open(os.devnull) as nothing:
            os.dup2(nothing.fileno(), 0)
        os.dup2(2, 1)

    def send(self, kind: str, **content: Any) -> None:
        line = json.dumps({"is": kind, **content}, separators=(",", ":"))
        with self._sending:
            self._outgoing.write(line + "\n")
            self._outgoing.flush()

    def listen(self, prefetch: Callable[[Task], None]) -> None:
        """Read the parent's messages until it closes the pipe."""
        from job.task import Task

        for line in self.incoming:
            message = json.loads(line)
            if message["do"] == "cancel":
                self.cancelled.set()
            elif message["do"] == "prefetch":
                prefetch(Task.from_dict(message["task"]))
            else:
                self.cancelled.clear()
                self.tasks.put(message)
        # The parent has ended or closed stdin. Not sys.exit: the main thread may be in C code.
        os._exit(0)


def main() -> int:
    """Read the configuration, load the pipeline (if any), run tasks until stdin closes."""
    parent = ParentConnection()
    first = parent.incoming.readline()
    if not first:
        return 0  # the parent has already ended
    from job.task import ChildConfig

    config = ChildConfig(**json.loads(first)["config"])
    os.environ.update(config.environment)  # before anything is imported that reads it
    import cv2

    from child import limits
    from child.pipelines import build_pipeline
    from child.recipe import FramePrefetcher, Recipe
    from errors import InternalError, ServiceError
    from job.logs import configure
    from pipeline import Gpu
    from video.cores import use_cores
    from video.sandbox import ffmpeg_path

    configure(config.log_format)
    with contextlib.suppress(InternalError):  # without ffmpeg each job fails and says so
        # named, imageio-ffmpeg does not run it to see whether it works
        os.environ.setdefault("IMAGEIO_FFMPEG_EXE", ffmpeg_path())
    limits.limit_process()
    if config.pipeline in ("silhouette", ""):
        os.nice(10)  # on the CPU the API has priority
    if config.memory_mb and not config.uses_cuda:
        limits.limit_data(config.memory_mb)
    if not (config.pipeline and config.uses_cuda):  # CUDA does not survive a fork
        cv2.setNumThreads(1)
        use_cores(config.cores, config.sharing)
    prefetcher = FramePrefetcher(config.pipeline)
    listen = partial(parent.listen, prefetcher.prefetch)
    threading.Thread(target=listen, name="stdin", daemon=True).start()
    try:
        pipeline = build_pipeline(config.pipeline) if config.pipeline else None
        recipe = Recipe(
            pipeline, parent.send, parent.cancelled, prefetcher, blender_path=config.blender_path
        )
        recipe.load()
        limits.limit_files()
    except ServiceError as error:
        log.exception("the pipeline could not be loaded")
        parent.send("broken", error=error.to_dict())
        return 1
    gc.collect()
    gc.freeze()  # a quarter of a second less for each collection, while the GPU waits
    gpu = getattr(pipeline, "gpu", None)
    parent.send("ready", pid=os.getpid(), gpu=vars(gpu) if isinstance(gpu, Gpu) else None)
    _run_tasks(parent, recipe, config.task_s)
    os._exit(EXIT_UNUSABLE)  # libraries may abort at exit where a GPU is lost


def _run_tasks(parent: ParentConnection, recipe: Recipe, task_s: float) -> None:
    """One task after another; returns if this process must end."""
    from child import limits
    from job.logs import bound_to_job
    from job.task import Task

    is_usable = True
    while is_usable:
        message = parent.tasks.get()
        task = Task.from_dict(message["task"])
        limits.limit_cpu(task_s * task.options.time_share)
        with bound_to_job(task.job_id):
            is_usable = _run_task(parent, recipe, message["do"], task)


def _run_task(parent: ParentConnection, recipe: Recipe, do: str, task: Task) -> bool:
    """Run the task and report how it ended; False if this process must end."""
    import errors
    from child.checkpoint import NoCheckpoint
    from child.recipe import is_unusable

    try:
        if do == "compute":
            recipe.compute(task)
            parent.send("computed")
        else:
            result = recipe.export(task) if do == "export" else recipe.run(task)
            parent.send("finished", result=result.to_dict())
    except errors.Cancelled:
        parent.send("cancelled")
    except (MemoryError, NoCheckpoint):
        log.exception("this process ends, and the next attempt begins in a new one")
        return False
    except errors.ServiceError as error:
        if is_unusable(error):
            log.exception("this process can run no more tasks")
            return False
        log.info("the job failed: %s", error.code, exc_info=isinstance(error, errors.ServerFault))
        parent.send("failed", error=error.to_dict())
    except Exception as exc:
        if not task.folder.exists():
            log.info("the job was deleted while it ran")
            parent.send("cancelled")
        elif isinstance(exc, OSError) and errors.is_disk_full(exc):
            log.info("the job failed: the disk is full", exc_info=True)
            parent.send("failed", error=errors.from_os_error(exc).to_dict())
        else:
            log.exception("a bug in the server ended the job")
            parent.send("failed", error=errors.InternalError().to_dict())
    return True


def _end_with_parent(parent_pid: int) -> None:
    """SIGKILL when the thread that started this process ends (Linux); elsewhere stdin closes."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(0)


if __name__ == "__main__":
    _end_with_parent(int(sys.argv[1]))
    with contextlib.suppress(OSError):  # if memory runs out, Linux should not kill the server
        Path("/proc/self/oom_score_adj").write_text("500")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    # this file's folder must not hide installed packages
    sys.path[0] = ROOT
    raise SystemExit(main())
