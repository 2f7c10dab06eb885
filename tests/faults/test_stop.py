"""SIGTERM in every state: the server ends cleanly and soon, and leaves no request unanswered."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import httpx

from job.state import JobStatus
from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults, records
from tests.faults.processes import descriptors
from tests.faults.server import Server, start_of_upload
from tests.waiting import wait_until


def stop_in_time(server: Server) -> None:
    """The running job, which would take minutes, is requeued within its time limit."""
    assert server.stop() == 0, server.output()[-2000:]
    server.assert_no_orphans()
    assert "Traceback" not in server.output()


def test_a_running_job_is_requeued_and_a_waiting_client_gets_an_answer(
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
    before = descriptors(server.pid)
    waiting.start()
    wait_until(lambda: descriptors(server.pid) > before)
    time.sleep(0.3)  # by now it is connected and has sent its request
    stop_in_time(server)
    waiting.join()
    assert replies[0].json()["status"] == "queued"
    jobs = records(server.jobs_dir)
    for job_id in (running, queued):
        assert (jobs[job_id].status, jobs[job_id].attempts) == (JobStatus.QUEUED, 0)


def test_requeued_jobs_run_in_their_order_after_the_next_start(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SleepsLong").start()
    first, second = server.submit(clip), server.submit(clip)
    server.wait_for_stage(first, "motion")
    stop_in_time(server)
    server.start(PIPELINE="tests.pipelines:Specks")
    ends = [server.wait_for(job_id)["finished_at"] for job_id in (first, second)]
    assert ends == sorted(ends)
    stop_in_time(server)
    assert faults(server.jobs_dir) == []


def test_a_job_that_is_nearly_done_finishes_within_the_time_limit(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SpecksSlowly").start()
    job_id = server.submit(clip)
    server.wait_for_stage(job_id, "exporting")
    stop_in_time(server)
    assert records(server.jobs_dir)[job_id].status in (JobStatus.FINISHED, JobStatus.QUEUED)


def test_it_stops_when_idle_and_right_after_the_start(fork_server: MakeServer) -> None:
    server = fork_server().start()
    stop_in_time(server)
    server.start()
    wait_until(lambda: server.http.get("/ready").status_code == 200)
    stop_in_time(server)


def test_a_stop_during_an_upload_is_answered_and_leaves_nothing_of_it(
    fork_server: MakeServer,
) -> None:
    server = fork_server().start()
    with socket.create_connection(("127.0.0.1", server.port), 60) as half_way:
        half_way.sendall(start_of_upload(5_000_000, bytes(2**20)))
        wait_until(lambda: any((server.jobs_dir / ".staging").iterdir()))
        stop_in_time(server)
        assert_draining(half_way)
    assert faults(server.jobs_dir) == []


def test_a_stop_during_any_other_body_is_answered(fork_server: MakeServer, clip: Path) -> None:
    server = fork_server().start()
    job_id = server.submit(clip)
    server.wait_for(job_id)
    with socket.create_connection(("127.0.0.1", server.port), 60) as half_way:
        head = f"POST /jobs/{job_id}/retry HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n"
        half_way.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert half_way.recv(1024).startswith(b"HTTP/1.1 100 ")  # now it waits for the body
        stop_in_time(server)
        assert_draining(half_way)


def assert_draining(peer: socket.socket) -> None:
    """The reply of a server that stopped before the request was complete."""
    reply = b""
    while more := peer.recv(65_536):
        reply += more
    head, _, body = reply.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    assert lines[0] == b"http/1.1 503 service unavailable", reply
    found = json.loads(body)
    assert (found["code"], found["status"]) == ("draining", 503)
    assert b"x-request-id: " + found["request_id"].encode() in lines
    assert b"retry-after: 10" in lines and b"content-type: application/problem+json" in lines
