"""The CPU time of a gigabyte of downloads with and without nginx: `python -m benchmarks.nginx`.

The shipped site (deploy/nginx.conf) before a real server, and the server alone. CPU is that of the
server's process and nginx's, from /proc. Prints a Markdown table.
"""

from __future__ import annotations

import http.client
import tempfile
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from job.folder import JobsFolder
from job_store import JobStore
from tests.deploy.nginx import ACCEL_PREFIX, nginx_before
from tests.faults.processes import cpu_s
from tests.job_factory import accept, result, write_attempt
from tests.servers import process_server

BIG_MB = 100
"""In files of 10 MB the server's own answer to each request would count as much."""
MEASURED_MB = 300
ROUNDS = 12
HIGHEST_RATIO = 0.2


def main() -> int:
    """Print the table; 0 if the limit is met."""
    with tempfile.TemporaryDirectory(prefix="nginx-") as name, ExitStack() as running:
        folder = Path(name)
        path = f"/outputs/{_job_with_big_file(folder / 'jobs')}/mesh_000.glb"
        with process_server(folder) as alone:
            ours = _cpu_per_gb(alone.url, path, [alone.process.pid])
            alone.process.terminate()
            alone.process.wait(20)
        server = running.enter_context(process_server(folder, ACCEL_PREFIX=ACCEL_PREFIX))
        nginx = running.enter_context(nginx_before(server, folder / "nginx"))
        through = _cpu_per_gb(nginx.url, path, [server.process.pid, nginx.pid])
    is_met = through <= HIGHEST_RATIO * ours
    print("| what | measured | limit | met |\n|---|---|---|---|")
    print(
        f"| downloads, CPU s a GB: sent by nginx (by the server) | {through:.2f} ({ours:.2f}) "
        f"| {HIGHEST_RATIO} of the server's | {'yes' if is_met else 'NO'} |"
    )
    return 0 if is_met else 1


def _job_with_big_file(jobs_dir: Path) -> str:
    size = BIG_MB << 20
    store = JobStore(JobsFolder(jobs_dir))
    store.open()
    job_id = accept(store).job_id
    store.start(job_id)
    write_attempt(store, job_id, 1, size)
    store.folder.publish_outputs(job_id, 1, result(size))
    store.finish(job_id, result(size))
    store.close()
    return job_id


def _cpu_per_gb(url: str, path: str, pids: list[int]) -> float:
    """Seconds of CPU of these processes for a GB of downloads: the best of some rounds."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    _download(connection, path)
    spent = []
    for _ in range(ROUNDS):
        before = sum(map(cpu_s, pids))
        sent = sum(_download(connection, path) for _ in range(MEASURED_MB // BIG_MB))
        spent.append((sum(map(cpu_s, pids)) - before) / (sent / 1e9))
    connection.close()
    return min(spent)


def _download(connection: http.client.HTTPConnection, path: str) -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 200
    size, buffer = 0, bytearray(1 << 20)
    while count := response.readinto(buffer):
        size += count
    return size


if __name__ == "__main__":
    raise SystemExit(main())
