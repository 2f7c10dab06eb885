"""Runs one attack and measures the server meanwhile: memory, /health, files and processes.

Another process asks for /health twenty times a second. Beside its time it notes how much CPU the
server used meanwhile: on a busy machine a late answer alone does not say that the loop was held.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from job.folder import is_job_id
from tests.faults.attacks.attack import Attack, Target, upload
from tests.faults.processes import command, cpu_s, descendants, rss_mb
from tests.faults.server import Server
from tests.video.clips import numbered
from tests.waiting import wait_until

MOST_MB = 60.0
"""An attack may move the resident memory of the API process by so much."""
LONGEST_MS = 100.0
"""An attack may hold the API's event loop for so long."""
PROBE_S = 0.05
LATEST_MS = 30_000.0


@dataclass
class Measured:
    """What one attack did. `held_ms` is the CPU that the server used during the worst /health."""

    wrong: list[str] = field(default_factory=list)
    growth_mb: float = 0.0
    kept_mb: float = 0.0
    health_ms: float = 0.0
    held_ms: float = 0.0
    probes: int = 0
    left: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def faults(self) -> list[str]:
        """What tests may judge: nothing here depends on the machine's speed."""
        grew = [f"grew by {self.growth_mb:.0f} MB"] if self.growth_mb > MOST_MB else []
        return [*self.wrong, *grew, *(f"left {item}" for item in self.left)]

    @property
    def is_slow(self) -> bool:
        """True if /health waited because the server was busy."""
        return self.held_ms > LONGEST_MS


def measure(attack: Attack, target: Target) -> Measured:
    """Run it on this server, which must be idle; its new jobs are deleted."""
    server = target.server
    files, processes = _files(server.jobs_dir), _processes(server)
    before_mb = rss_mb(server.pid)
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM starts again
    began, measured = time.monotonic(), Measured()
    with _probes(server, measured):
        statuses = [*attack.run(target)]
    measured.took_s = time.monotonic() - began
    if not server.is_running:
        measured.wrong.append("the server ended")
        return measured
    measured.growth_mb = _peak_mb(server.pid) - before_mb
    wrong = [str(status) for status in statuses if status not in attack.right]
    if wrong:
        measured.wrong.append(f"answers {', '.join(wrong)} of {len(statuses)}")
    _delete_jobs(server)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: _files(server.jobs_dir) == files, 30.0)
        wait_until(lambda: _processes(server) <= processes, 30.0)
    measured.left = sorted(_files(server.jobs_dir) - files)[:5]
    measured.left += sorted(_processes(server) - processes)
    measured.kept_mb = rss_mb(server.pid) - before_mb
    return measured


def warm_up(target: Target) -> None:
    """What every server does once: import, start threads, fill caches."""
    server = target.server
    wait_until(lambda: server.http.get("/ready").status_code in (200, 503))
    clip = numbered(target.folder / "warm.mp4", 16)
    for path in ("/", "/info", "/openapi.json", "/metrics", "/jobs", "/nothing"):
        server.http.get(path)
    for _ in range(40):
        assert upload(target, b"no video") == 415
    if upload(target, clip) == 202:
        (job,) = server.http.get("/jobs").json()["jobs"]
        server.http.get(f"/jobs/{job['job_id']}", params={"wait": 55}, timeout=90.0)
        server.http.delete(f"/jobs/{job['job_id']}")
    wait_until(lambda: not any((server.jobs_dir / ".trash").iterdir()))


def _delete_jobs(server: Server) -> None:
    for folder in server.jobs_dir.iterdir():
        if is_job_id(folder.name):
            server.http.delete(f"/jobs/{folder.name}", timeout=60.0)


def _files(folder: Path) -> set[str]:
    found = set()
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found.add(f"{path.relative_to(folder)}{'/' if path.is_dir() else ''}")
    return found


def _processes(server: Server) -> set[str]:
    """The commands of its children, without the numbers in them: a child may have been replaced."""
    return {re.sub(r"\d+", "#", command(pid)) for pid in descendants(server.pid)} - {""}


def _peak_mb(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


# --- /health, from another process


@contextmanager
def _probes(server: Server, measured: Measured) -> Iterator[None]:
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    prober = fork.Process(target=_probe, args=(server.port, server.pid, theirs), daemon=True)
    prober.start()
    assert ours.recv() == "ready"
    try:
        yield
    finally:
        ours.send("stop")
        measured.health_ms, measured.held_ms, measured.probes = ours.recv()
        prober.join()


def _probe(port: int, pid: int, parent: Connection) -> None:
    """Ask until the parent says stop, at least once; send it the longest time, the most CPU of the
    server in the time of one answer, and the count.
    """
    longest = held = 0.0
    count = 0
    parent.send("ready")
    while count == 0 or not parent.poll(PROBE_S):
        with contextlib.suppress(OSError):  # the server has ended
            began, used = time.monotonic(), cpu_s(pid)
            is_healthy = _is_healthy(port)
            taken = 1e3 * (time.monotonic() - began) if is_healthy else LATEST_MS
            longest = max(longest, taken)
            held = max(held, min(taken, 1e3 * (cpu_s(pid) - used)))
        count += 1
    parent.send((longest, held, count))


def _is_healthy(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), LATEST_MS / 1e3) as peer:
            peer.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            return peer.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
