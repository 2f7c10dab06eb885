"""SIGTERM in every state: the server ends in good order, soon, and owes nobody anything."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import httpx

from job.state import JobStatus
from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults, records
from tests.faults.server import Server
from tests.waiting import wait_until


def stop_soon(server: Server) -> None:
    """What ran is given back within its grace: its pipelines would take minutes."""
    assert server.stop() == 0, server.said()[-2000:]
    server.assert_no_orphans()
    # uvicorn shows where it cut off a request that did not end in time
    assert server.said().count("Traceback") == server.said().count("CancelledError")


def test_a_running_job_is_given_back_and_a_waiting_client_is_told(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SleepsLong").start()
    running, queued = server.submit(clip), server.submit(clip)
    server.wait_for_stage(running, "motion")
    replies: list[httpx.Response] = []
    url = f"http://127.0.0.1:{server.port}/jobs/{queued}?wait=55"
    waiting = threading.Thread(
        target=lambda: replies.append(httpx.get(url, timeout=60, trust_env=False))
    )
    waiting.start()
    time.sleep(0.3)
    stop_soon(server)
    waiting.join()
    assert replies[0].json()["status"] == "queued"
    jobs = records(server.jobs_dir)
    for job_id in (running, queued):
        assert (jobs[job_id].status, jobs[job_id].attempts) == (JobStatus.QUEUED, 0)


def test_given_back_jobs_run_after_the_next_start_in_their_order(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SleepsLong").start()
    first, second = server.submit(clip), server.submit(clip)
    server.wait_for_stage(first, "motion")
    stop_soon(server)
    server.start(PIPELINE="tests.pipelines:Specks")
    ends = [server.wait_for(job_id)["finished_at"] for job_id in (first, second)]
    assert ends == sorted(ends)
    stop_soon(server)
    assert faults(server.jobs_dir) == []


def test_a_job_about_to_end_is_finished_within_the_grace(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SpecksSlowly").start()
    job_id = server.submit(clip)
    server.wait_for_stage(job_id, "exporting")
    stop_soon(server)
    assert records(server.jobs_dir)[job_id].status in (JobStatus.FINISHED, JobStatus.QUEUED)


def test_idle_and_at_once_after_the_start_it_just_ends(fork_server: MakeServer) -> None:
    server = fork_server().start()
    stop_soon(server)
    server.start()
    wait_until(lambda: server.http.get("/ready").status_code == 200, 30.0)
    stop_soon(server)


def test_an_upload_under_way_is_dropped_whole(fork_server: MakeServer) -> None:
    server = fork_server().start()
    with socket.create_connection(("127.0.0.1", server.port)) as half_way:
        half_way.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000000\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            b'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n' + bytes(2**20)
        )
        wait_until(lambda: any((server.jobs_dir / ".staging").iterdir()))
        stop_soon(server)
    assert faults(server.jobs_dir) == []
