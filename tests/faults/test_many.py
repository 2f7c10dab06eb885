"""Many requests at the same time or for long, and many jobs on disk: nothing grows."""

from __future__ import annotations

import os
import resource
import signal
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults
from tests.faults.processes import descriptors
from tests.faults.server import Refused, start_of_upload
from tests.job_factory import finished_jobs
from tests.waiting import wait_until


def test_health_answers_while_old_jobs_are_read(make_server: MakeServer) -> None:
    server = make_server()
    known = finished_jobs(server.jobs_dir, 1000)
    record = server.jobs_dir / known[0] / "job.json"
    content = record.read_bytes()
    record.unlink()
    os.mkfifo(record)  # reading it blocks until it is written to
    server.start()
    assert server.http.get("/ready").json()["reason"] == "starting"
    assert server.http.get("/health").status_code == 200
    record.write_bytes(content)
    wait_until(lambda: server.http.get("/ready").status_code == 200)
    assert len(server.http.get("/jobs?limit=100").json()["jobs"]) == 100
    assert server.stop() == 0


def test_no_descriptor_thread_or_file_is_left_after_any_error(
    make_server: MakeServer, clip: Path, tmp_path: Path
) -> None:
    server = make_server().start()
    junk = tmp_path / "junk.mp4"
    junk.write_bytes(b"\0\0\0\x20ftypisom" + os.urandom(5000))

    def cause_every_error() -> None:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", server.port)) as cut:
                cut.sendall(start_of_upload(900_000, bytes(9999)))
            with pytest.raises(Refused):
                server.submit(junk)
        job_id = server.submit(clip)
        with pytest.raises(httpx.ReadTimeout):
            server.http.get(f"/jobs/{job_id}?wait=50", timeout=0.2)
        os.kill(server.child(), signal.SIGKILL)
        server.wait_for(job_id)
        assert server.http.delete(f"/jobs/{job_id}").status_code == 200

    def threads() -> int:
        return len(os.listdir(f"/proc/{server.pid}/task"))

    cause_every_error()
    before, threads_before = descriptors(server.pid), threads()
    for _ in range(2):
        cause_every_error()
    wait_until(lambda: descriptors(server.pid) <= before + 2)
    assert threads() <= max(threads_before, 40)  # the pool starts its 32 threads one by one
    wait_until(lambda: faults(server.jobs_dir) == [])
    assert len(server.descendants()) == 1


def test_it_accepts_more_connections_than_the_shells_limit(make_server: MakeServer) -> None:
    server = make_server()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        server.start()  # it inherits the limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ExitStack() as held:
        for _ in range(400):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        assert server.answers()
        wait_until(lambda: descriptors(server.pid) > 400)


def test_twenty_uploads_at_once_are_all_answered(make_server: MakeServer, clip: Path) -> None:
    server = make_server(MAX_UPLOADS=4, MAX_QUEUE=4).start()
    answers: list[int] = []

    def send() -> None:
        with open(clip, "rb") as file, httpx.Client(trust_env=False, timeout=60) as client:
            reply = client.post(
                f"http://127.0.0.1:{server.port}/jobs", files={"file": ("a.mp4", file)}
            )
            answers.append(reply.status_code)
            assert reply.status_code == 202 or "Retry-After" in reply.headers

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20 and set(answers) <= {202, 503} and 202 in answers
    wait_until(lambda: faults(server.jobs_dir) == [], 110.0)
