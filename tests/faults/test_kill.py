"""kill -9 of the server at every labelled step: what it promised is done after the next start.

The labels are the arguments of failpoint.reach; CRASH_AT makes the server die there. A job for
which the client got no answer may exist or not, but never in part.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults, records
from tests.faults.server import SPECKS, Refused, Server, start_of_upload
from tests.waiting import wait_until

QUICK = ("accept:committed", "report:motion", "publish:renamed", "change:finished")
# `write:<file>:before_rename#n` is the n-th write in the life of that server
SLOW = (
    "write:.sequence:before_rename", "accept:input_synced", "accept:staged",
    "write:job.json:before_rename#1", "write:job.json:before_rename#2",
    "write:job.json:before_rename#3",
    "change:running", "changed:running", "run:started",
    "report:extracting", "report:shape", "report:exporting", "report:rendering", "run:done",
    "write:result.json:before_rename", "publish:recorded", "finish:published", "changed:finished",
)  # fmt: skip


def submit_until_it_dies(server: Server, clip: Path, most: int) -> list[str]:
    """The jobs that the server promised to do."""
    promised = []
    for _ in range(most):
        try:
            promised.append(server.submit(clip))
        except Refused as refused:
            assert refused.status == 0
            break
    assert server.wait_for_end() == -signal.SIGKILL
    return promised


def assert_all_is_well(server: Server, promised: list[str]) -> None:
    """After a start: promised jobs finish, others finish or do not exist; no file is left."""
    for job_id in promised:
        server.wait_for(job_id)
    wait_until(lambda: not faults(server.jobs_dir))
    assert set(promised) <= set(records(server.jobs_dir))
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []
    server.assert_no_orphans()


@pytest.mark.parametrize(
    "step", [*QUICK, *(pytest.param(step, marks=pytest.mark.slow) for step in SLOW)]
)
def test_killed_at_a_step_the_next_server_keeps_the_promises(
    fork_server: MakeServer, clip: Path, step: str
) -> None:
    server = fork_server().start(crash_at=step)
    promised = submit_until_it_dies(server, clip, 2 if step in QUICK else 1)
    server.assert_no_orphans()
    server.start()
    assert_all_is_well(server, promised)


@pytest.mark.parametrize("step", ["delete:asked", "delete:trashed"])
def test_killed_while_it_deletes_the_job_is_complete_or_removed(
    fork_server: MakeServer, clip: Path, step: str
) -> None:
    server = fork_server().start(crash_at=step)
    kept, deleted = server.submit(clip), server.submit(clip)
    server.wait_for(deleted)
    with pytest.raises(Exception, match="disconnect|reset|Reset"):
        server.http.delete(f"/jobs/{deleted}")
    server.wait_for_end()
    server.start()
    is_there = server.http.get(f"/jobs/{deleted}").status_code == 200
    assert is_there == (step == "delete:asked")
    assert_all_is_well(server, [kept])


def test_killed_while_it_cancels_the_job_runs_or_is_cancelled(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server("tests.pipelines:SpecksSlowly").start(crash_at="change:cancelled")
    job_id = server.submit(clip)
    server.wait_for_stage(job_id, "motion")
    assert server.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    assert server.wait_for_end() == -signal.SIGKILL
    server.start()
    server.wait_for(job_id, "cancelled")
    assert_all_is_well(server, [])


def test_killed_during_a_job_no_process_is_left_and_both_jobs_finish_after_a_restart(
    make_server: MakeServer, clip: Path
) -> None:
    server = make_server("tests.pipelines:SleepsLong").start()
    first, second = server.submit(clip), server.submit(clip)
    server.wait_for_stage(first, "motion")
    assert len(server.descendants()) >= 1
    server.kill()
    server.assert_no_orphans()  # if not ended, they would run for minutes
    server.start(PIPELINE=SPECKS)
    assert server.wait_for(first)["status"] == "finished"
    assert_all_is_well(server, [first, second])
    jobs = records(server.jobs_dir)
    assert (jobs[first].attempts, jobs[second].attempts) == (2, 1)
    ends = [jobs[job_id].finished_at for job_id in (first, second)]
    assert ends[0] is not None and ends[1] is not None and ends[0] < ends[1]


def test_a_job_fails_after_three_killed_servers_and_the_next_one_runs(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server()
    server.start(crash_at="run:started")
    (first,) = submit_until_it_dies(server, clip, 1)
    for _ in range(2):
        server.start(crash_at="run:started")
        assert server.wait_for_end() == -signal.SIGKILL
    server.start()
    found = server.wait_for(first, "error")
    assert found["error_code"] == "worker_crashed" and found["retryable"]
    assert_all_is_well(server, [server.submit(clip)][:1])


def test_killed_in_the_middle_of_an_upload_nothing_of_it_is_left(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server().start()
    with socket.create_connection(("127.0.0.1", server.port)) as half_way:
        half_way.sendall(start_of_upload(5_000_000, bytes(3 << 20)))  # written by the MB
        staging = server.jobs_dir / ".staging"
        wait_until(lambda: any(path.stat().st_size for path in staging.glob("*/input")))
        server.kill()
    server.start()
    assert list(staging.iterdir()) == []
    assert_all_is_well(server, [server.submit(clip)])


def test_killed_while_a_video_is_fetched_it_is_fetched_again(
    fork_server: MakeServer, clip: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as slow_host:
        url = f"http://127.0.0.1:{slow_host.getsockname()[1]}/clip.mp4"
        server = fork_server(ALLOW_PRIVATE_URLS=1).start()
        job_id = server.http.post("/jobs", json={"video_url": url}).json()["job_id"]
        first, _ = slow_host.accept()
        with first:
            first.recv(4096)
            first.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhalf")
            time.sleep(0.3)
            server.kill()
        server.start()
        second, _ = slow_host.accept()
        with second:
            second.recv(4096)
            content = clip.read_bytes()
            second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content))
            second.sendall(content)
            server.wait_for(job_id)
    assert_all_is_well(server, [job_id])
