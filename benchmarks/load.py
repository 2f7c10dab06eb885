"""Measures the API under load: `python -m benchmarks.load [memory polling ...]`.

A real server, real jobs, and the load on the same machine, so ratios within one run mean more than
times. CPU and memory are those of the server's own process, from /proc. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.probe import (
    Latencies,
    allow_many_connections,
    open_connections,
    poll_beside_streams,
    poll_together,
)
from tests.faults.processes import cpu_s, rss_mb
from tests.faults.server import Server
from tests.job_factory import finished_jobs
from tests.servers import ROOT, free_port
from tests.video.clips import numbered

EXAMPLE = ROOT / "examples" / "dancing_sprout.mp4"
BODY_MB = 100
BOUNDARY = b"------------------------d74496d66958873e"
"""As long as curl's: a shorter one takes a parser longer to find."""
MB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    what: str
    found: str
    limit: str
    is_met: bool


def main(parts: list[str]) -> int:
    """Measure the named parts, or all; 0 if every limit is met."""
    allow_many_connections()
    print("| what | measured | limit | met |\n|---|---|---|---|")
    all_met = True
    for name in parts or list(PARTS):
        with tempfile.TemporaryDirectory(prefix="load-") as folder:
            for row in PARTS[name](Path(folder)):
                met = "yes" if row.is_met else "NO"
                print(f"| {row.what} | {row.found} | {row.limit} | {met} |")
                sys.stdout.flush()
                all_met = all_met and row.is_met
    return 0 if all_met else 1


# --- memory


def memory(folder: Path) -> Iterator[Row]:
    """A server with a thousand finished jobs, after one request for each."""
    with Server(folder, "silhouette") as server:
        known = finished_jobs(server.jobs_dir, 1000)
        server.start()
        _wait_until_ready(server)
        for job_id in known:
            server.job(job_id)
        found = rss_mb(server.pid)
        yield Row("API process, 1,000 finished jobs known", f"{found:.0f} MB", "90 MB", found <= 90)


def many(folder: Path) -> Iterator[Row]:
    """Starts with 20,000 and with 100,000 finished jobs on disk."""
    for count in (20_000, 100_000):
        (folder / str(count)).mkdir()
        yield from _many(folder / str(count), count)


def _many(folder: Path, count: int) -> Iterator[Row]:
    with Server(folder) as server:
        finished_jobs(server.jobs_dir, count)
        began = time.monotonic()
        server.start()
        answered_s, cpu = time.monotonic() - began, cpu_s(server.pid)
        blocked = 0.0
        while server.http.get("/ready").json().get("reason") == "starting":
            blocked = max(blocked, _longest_health_ms(server, 1.0))
        read_s = time.monotonic() - began
        idle = _longest_health_ms(server, 4.0)
        rss = rss_mb(server.pid)
        yield Row(
            f"{count:,} finished jobs on disk: first /health",
            f"{answered_s:.1f} s ({cpu:.1f} s CPU)", "2 s", min(answered_s, cpu) < 2,
        )  # fmt: skip
        yield Row("- memory, once they are read", f"{rss:.0f} MB", "150 MB", rss < 150)
        yield Row(
            f"- longest /health in the {read_s:.0f} s until they are read (then idle)",
            f"{blocked:.0f} ms ({idle:.0f} ms)", "100 ms or 3 x idle",
            blocked < max(100.0, 3 * idle),
        )  # fmt: skip


def _longest_health_ms(server: Server, seconds: float) -> float:
    return asyncio.run(poll_together(server.port, "/health", 1, 0.01, seconds)).percentile_ms(100)


# --- polling


def polling(folder: Path) -> Iterator[Row]:
    """GET /jobs/{id} while nothing runs, and while a silhouette job does."""
    with Server(folder, "silhouette") as server:
        server.start()
        job_id = server.submit(EXAMPLE)
        server.wait_for(job_id, timeout_s=300)
        cases = (
            ("one client, 50 a second", 1, 0.02, 6.0, 50.0),
            ("100 pollers, 100 a second", 100, 1.0, 6.0, 150.0),
            ("1,000 pollers, 500 a second", 1000, 2.0, 8.0, 1000.0),
        )
        for what, pollers, every_s, seconds, limit_ms in cases:
            idle = _poll(server, job_id, pollers, every_s, seconds)
            with _job_running(server):
                busy = _poll(server, job_id, pollers, every_s, seconds)
            p99, idle_p99 = busy.percentile_ms(99), idle.percentile_ms(99)
            errors = idle.errors + busy.errors
            yield Row(
                f"GET /jobs/{{id}} p99 while a job runs, {what}",
                f"{p99:.0f} ms (idle {idle_p99:.0f} ms), {errors} errors",
                f"{limit_ms:.0f} ms or 3 x idle, 0 errors",
                p99 <= max(limit_ms, 3 * idle_p99) and not errors,
            )


def _poll(server: Server, job_id: str, pollers: int, every_s: float, seconds: float) -> Latencies:
    return asyncio.run(poll_together(server.port, f"/jobs/{job_id}", pollers, every_s, seconds))


def streams(folder: Path) -> Iterator[Row]:
    """Like `polling`, with 64 clients that follow the running job by events, except for idle."""
    with Server(folder, "silhouette") as server:
        server.start()
        job_id = server.submit(EXAMPLE)
        server.wait_for(job_id, timeout_s=300)
        idle = _poll(server, job_id, 100, 1.0, 8.0)
        before = cpu_s(server.pid)
        with _job_running(server) as running:
            busy, followers = asyncio.run(
                poll_beside_streams(server.port, f"/jobs/{running}", 64, 100, 1.0, 8.0)
            )
        cpu = cpu_s(server.pid) - before
        p99, idle_p99 = busy.percentile_ms(99), idle.percentile_ms(99)
        errors = idle.errors + busy.errors + followers.broken
        yield Row(
            "GET /jobs/{id} p99 while a job runs, 64 event streams and 100 pollers, 100 a second",
            f"{p99:.0f} ms (idle {idle_p99:.0f} ms), {followers.events} events, "
            f"{cpu:.1f} s CPU in 8 s, {errors} errors",
            "100 ms or 3 x idle, 0 errors",
            p99 <= max(100.0, 3 * idle_p99) and not errors,
        )


@contextmanager
def _job_running(server: Server) -> Iterator[str]:
    """A job that uses a core during the block; two, in case the first one ends."""
    jobs = [server.submit(EXAMPLE), server.submit(EXAMPLE)]
    server.wait_for(jobs[0], "running")
    yield jobs[0]
    for job_id in reversed(jobs):
        server.http.delete(f"/jobs/{job_id}")


# --- uploads


def uploads(folder: Path) -> Iterator[Row]:
    """Large uploads at once, compared with a server that discards the same bodies."""
    body = _body(numbered(folder / "clip.mp4", 16))
    pipeline = "tests.pipelines:SleepsLong"  # the jobs themselves must not be measured
    with Server(folder, pipeline, MAX_UPLOADS=32, MAX_QUEUE=64) as server, _discarding() as bare:
        server.start()
        _wait_until_ready(server)
        _send_at_once(bare[1], body, 1)
        _send_at_once(server.port, body, 1)
        spent: dict[str, float] = {}
        for name, pid, port in (("bare", bare[0], bare[1]), ("ours", server.pid, server.port)):
            before = cpu_s(pid)
            _send_at_once(port, body, 8)
            spent[name] = (cpu_s(pid) - before) / (8 * BODY_MB / 1000)
        yield Row(
            "upload, CPU per GB (discarding the same bodies)",
            f"{spent['ours']:.2f} s ({spent['bare']:.2f} s)", "2 x the discard",
            spent["ours"] <= 2 * spent["bare"],
        )  # fmt: skip
        for count, limit_mb in ((8, 60), (20, 150)):
            before = rss_mb(server.pid)
            with _peak_rss(server.pid) as peak:
                _send_at_once(server.port, body, count)
            grown = peak() - before
            yield Row(
                f"{count} uploads of {BODY_MB} MB at once, memory grows by",
                f"{grown:.0f} MB", f"{limit_mb} MB", grown < limit_mb,
            )  # fmt: skip


def _body(clip: Path) -> list[bytes]:
    """A multipart request in pieces; the clip is padded with a `free` box, as a camera may."""
    video = clip.read_bytes()
    free = BODY_MB * 1_000_000 - len(video)
    head = b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data; "
    head += b'name="file"; filename="a.mp4"\r\n\r\n'
    box = video + free.to_bytes(4, "big") + b"free"
    zeros = bytes(MB)
    padding = [zeros] * ((free - 8) // MB) + [bytes((free - 8) % MB)]
    pieces = [head + box, *padding, b"\r\n--" + BOUNDARY + b"--\r\n"]
    length = sum(map(len, pieces))
    request = (
        "POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return [request.encode(), *pieces]


def _send_at_once(port: int, body: list[bytes], count: int) -> None:
    """`count` uploads, each in its thread; all must be accepted."""
    heads: list[bytes] = []

    def send() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for piece in body:
                connection.sendall(piece)
            heads.append(connection.recv(64))

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [head for head in heads if head[9:12] not in (b"200", b"202")]
    if refused or len(heads) != count:
        raise SystemExit(f"an upload was refused: {refused[:1]}")


@contextmanager
def _peak_rss(pid: int) -> Iterator[Callable[[], float]]:
    """Samples the memory of a process 20 times a second."""
    peak = [rss_mb(pid)]
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], rss_mb(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: peak[0]
    finally:
        done.set()
        thread.join()


async def discard(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The smallest ASGI app that reads an upload: the cost of uvicorn itself."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@contextmanager
def _discarding() -> Iterator[tuple[int, int]]:
    """Pid and port of a server of `discard`."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "benchmarks.load:discard", "--host", "127.0.0.1",
         "--port", str(port), "--lifespan", "off", "--log-level", "warning", "--no-access-log"],
        cwd=ROOT,
    )  # fmt: skip
    try:
        for _ in range(500):
            try:
                httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


# --- slow clients


def slow(folder: Path) -> Iterator[Row]:
    """A thousand connections that send the start of a request and then nothing."""
    half_head = b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-"
    half_body = (
        b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
    )
    beginnings = {"nothing": (b"", 200), "half a head": (half_head, 400), "half": (half_body, 400)}
    with Server(folder, MAX_UPLOADS=1000, MAX_QUEUE=1000) as server:
        server.start()
        _wait_until_ready(server)
        held: dict[str, list[tuple[float, float]]] = {}

        def hold(name: str, beginning: bytes, count: int) -> None:
            held[name] = open_connections(server.port, count, beginning)

        threads = [
            threading.Thread(target=hold, args=(name, *what)) for name, what in beginnings.items()
        ]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        health = asyncio.run(poll_together(server.port, "/health", 1, 0.05, 50.0))
        for thread in threads:
            thread.join()
        p99 = health.percentile_ms(99)
        yield Row(
            "1,000 idle connections for 60 s: /health p99",
            f"{p99:.0f} ms, {health.errors} errors", "100 ms", p99 < 100 and not health.errors,
        )  # fmt: skip
        for name, found in held.items():
            longest = max(closed - opened for opened, closed in found)
            yield Row(
                f"- {len(found)} that sent {name}, the last closed after",
                f"{longest:.0f} s", "60 s", longest <= 60,
            )  # fmt: skip


def _wait_until_ready(server: Server) -> None:
    while server.http.get("/ready").status_code != 200:
        time.sleep(0.1)


PARTS: dict[str, Callable[[Path], Iterator[Row]]] = {
    "memory": memory, "many": many, "polling": polling, "streams": streams, "uploads": uploads,
    "slow": slow,
}  # fmt: skip

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
