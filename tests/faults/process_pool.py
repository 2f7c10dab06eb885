"""Servers that start a second faster: forked from a process that has already imported the modules.

`ProcessPool` runs `python -m tests.faults.process_pool` and asks it for servers: `main.main()` in a
fresh process with an environment of its own. For tests that start many servers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.faults.server import SPECKS, Server
from tests.servers import ROOT


class ProcessPool:
    """The process that forks the servers. It handles one request at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.process_pool"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            start_new_session=True,  # Ctrl-C must reach only the process that uses the pool
        )  # fmt: skip

    def ask(self, **question: Any) -> Any:
        """do="start", environment, log: a pid. do="ended", pid: its exit code, or None."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it; its servers continue."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe
            pipe.close()


class ForkedServer(Server):
    """A Server that a process_pool starts."""

    def __init__(
        self, process_pool: ProcessPool, folder: Path, pipeline: str = SPECKS, **settings: object
    ) -> None:
        super().__init__(folder, pipeline, **settings)
        self._pool = process_pool
        self._exit_code: int | None = None

    def _launch(self, environment: dict[str, str]) -> None:
        self._exit_code = None
        self.pid = self._pool.ask(do="start", environment=environment, log=str(self.log))

    @property
    def is_running(self) -> bool:
        """False once the process has ended."""
        if self._exit_code is None and self.pid:
            self._exit_code = self._pool.ask(do="ended", pid=self.pid)
        return self.pid != 0 and self._exit_code is None

    def wait_for_end(self, timeout_s: float = 100.0) -> int:
        """The exit code; negative is a signal."""
        deadline = time.monotonic() + timeout_s
        while self.is_running:
            assert time.monotonic() < deadline, "the server does not end"
            time.sleep(0.01)
        assert self._exit_code is not None
        return self._exit_code


def main() -> None:
    """Answer requests until stdin is closed."""
    import main as server

    # what uvicorn and the first request would import
    for name in ("uvloop", "httptools", "uvicorn.protocols.http.httptools_impl", "imageio_ffmpeg"):
        __import__(name)
    for line in sys.stdin:
        question = json.loads(line)
        answer: int | None
        if question["do"] == "start":
            pid = answer = os.fork()
            if pid == 0:
                _become(server, question["environment"], question["log"])
        else:
            ended, status = os.waitpid(question["pid"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(server: Any, environment: dict[str, str], log: str) -> None:
    """Run main.main() as `python main.py` does. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with open(log, "ab") as output, open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.environ.clear()
        os.environ.update(environment)
        code = server.main()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
