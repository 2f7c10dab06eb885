"""A real server that tests may kill: `python main.py` in its own session, on a free port.

Tests start it, send it jobs, kill it and start it again on the same JOBS_DIR. `close` ends it and
everything that it started. It does not check the files (inspection.py does).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.faults.processes import command, descendants, is_alive
from tests.servers import ROOT, free_port
from tests.waiting import wait_until

START_S = 60.0
STAGES = ("extracting", "shape", "motion", "exporting", "rendering")
"""Of the pipelines in tests/pipelines.py."""
SPECKS = "tests.pipelines:Specks"


def start_of_upload(length: int, clip: bytes) -> bytes:
    """The head of a POST /jobs that announces `length` bytes, and the beginning of its clip."""
    return (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        b'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    ) % length + clip


class Refused(Exception):
    """The server refused the request, or did not answer: then `status` is 0."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body


class Server:
    """One JOBS_DIR and the server that uses it now; `start` and `kill` may be called many times."""

    program: tuple[str, ...] = ("main.py",)

    def __init__(self, folder: Path, pipeline: str = SPECKS, **settings: object) -> None:
        self.jobs_dir = Path(str(settings.pop("JOBS_DIR", folder / "jobs")))
        self.log = folder / "server.log"
        self.port = free_port()
        self.pid = 0
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30.0
        )
        self._settings = {
            "HOST": "127.0.0.1", "PORT": self.port, "JOBS_DIR": self.jobs_dir,
            "PIPELINE": pipeline, "MIN_FREE_GB": 0, "LOG_FORMAT": "text", **settings,
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._others = descendants(os.getpid())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    # --- start and end

    def start(self, *, crash_at: str = "", **settings: object) -> Server:
        """Start it and wait until it answers; with `crash_at` it may end before that."""
        self._launch(self.environment(crash_at, settings))
        deadline = time.monotonic() + START_S
        while not self.answers():
            if not self.is_running:
                assert crash_at, f"the server ended: {self.output()[-2000:]}"
                break
            assert time.monotonic() < deadline, (
                f"the server does not answer: {self.output()[-2000:]}"
            )
            time.sleep(0.02)
        return self

    def environment(self, crash_at: str, settings: dict[str, object]) -> dict[str, str]:
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV", "IMAGEIO_FFMPEG_EXE")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        ours = {**self._settings, **settings, "CRASH_AT": crash_at}
        return {**environment, **{name: str(value) for name, value in ours.items()}}

    def _launch(self, environment: dict[str, str]) -> None:
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self.program],
                cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    @property
    def is_running(self) -> bool:
        """False once the process has ended."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """True if /health does."""
        try:
            return self.http.get("/health", timeout=5.0).status_code in (200, 503)
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL to the server only: the processes that it started must notice this themselves."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_for_end()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait_for_end()

    def wait_for_end(self, timeout_s: float = 100.0) -> int:
        """The exit code; negative is a signal."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def close(self) -> None:
        """End everything that was started here."""
        self.http.close()
        if not self.pid:
            return
        doomed = self.descendants() | self.orphans() | ({self.pid} if self.is_running else set())
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait_for_end(10.0)

    def output(self) -> str:
        """All output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    # --- its processes

    def descendants(self) -> set[int]:
        """All living descendants of this server."""
        return descendants(self.pid) if self.pid else set()

    def orphans(self) -> set[int]:
        """Processes that outlived a server. Needs `adopt_orphans`."""
        return descendants(os.getpid(), besides={*self._others, self.pid})

    def child(self) -> int:
        """The process that runs jobs; waits for it."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid in self.descendants() if "child/main.py" in command(pid)]
            return bool(found)

        wait_until(look)
        return found[0]

    def assert_no_orphans(self) -> None:
        """All processes of a dead server end soon."""
        wait_until(lambda: not any(is_alive(pid) for pid in self.orphans()))

    # --- jobs

    def submit(self, clip: Path, **fields: object) -> str:
        """The id of an accepted job. Raises Refused."""
        form = {name: str(value) for name, value in fields.items()}
        try:
            with open(clip, "rb") as file:
                reply = self.http.post("/jobs", files={"file": (clip.name, file)}, data=form)
        except httpx.TransportError as exc:
            raise Refused(0, {"detail": type(exc).__name__}) from exc
        body = reply.json()
        if reply.status_code != 202:
            raise Refused(reply.status_code, body)
        return str(body["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        """GET /jobs/{id}, which must exist."""
        reply = self.http.get(f"/jobs/{job_id}")
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def wait_for(self, job_id: str, *statuses: str, timeout_s: float = 100.0) -> dict[str, Any]:
        """The job once it has one of these statuses (default: finished), or fails."""
        wanted = statuses or ("finished",)
        deadline = time.monotonic() + timeout_s
        while (found := self.job(job_id))["status"] not in wanted:
            assert found["status"] in ("queued", "running"), found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def wait_for_stage(self, job_id: str, stage: str) -> None:
        """Until the running job is in this stage or, since some are very short, a later one."""
        reached = STAGES[STAGES.index(stage) :]
        wait_until(lambda: (self.job(job_id).get("progress") or {}).get("stage") in reached)
