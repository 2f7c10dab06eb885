"""Failures of the process that runs jobs: the server notices, reports the failure and continues."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults, records
from tests.faults.processes import command, is_alive
from tests.faults.server import Server
from tests.video.clips import numbered
from tests.waiting import wait_until

OBEYS_SEED = "tests.pipelines:ObeysSeed"
SEGFAULTS, SLOWLY, HANGS, SLEEPS_LONG, GROWS, WORKS = 3, 11, 9, 10, 13, 44


def assert_the_next_job_finishes(server: Server, clip: Path) -> None:
    server.wait_for(server.submit(clip))
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []
    server.assert_no_orphans()


def test_a_killed_child_costs_one_attempt_and_the_server_keeps_running(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server(OBEYS_SEED).start()
    job_id = server.submit(clip, seed=SLOWLY)
    server.wait_for_stage(job_id, "motion")
    child = server.child()
    os.kill(child, signal.SIGKILL)
    while server.job(job_id)["status"] != "finished":
        assert server.http.get("/health").json()["status"] == "healthy"
        time.sleep(0.05)
    assert "attempt 1 lost" in server.output() and not is_alive(child)
    assert_the_next_job_finishes(server, clip)


def test_of_two_children_a_killed_one_costs_only_its_own_attempt(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server(OBEYS_SEED, GPU_WORKERS=2).start()
    loaded = [f'actionmesh_slot_ready{{slot="{slot}"}} 1.0' for slot in (0, 1)]

    def both_are_loaded() -> bool:
        text = server.http.get("/metrics").text
        return all(line in text for line in loaded)

    wait_until(both_are_loaded)
    other, doomed = server.submit(clip, seed=SLOWLY), server.submit(clip, seed=SLOWLY)
    server.wait_for_stage(other, "motion")
    server.wait_for_stage(doomed, "motion")
    line = re.search(rf"\[{doomed[:8]}\].*attempt 1: slot \d, child (\d+): run", server.output())
    assert line is not None
    os.kill(int(line[1]), signal.SIGKILL)
    assert [server.wait_for(job_id)["attempt"] for job_id in (other, doomed)] == [1, 2]
    assert_the_next_job_finishes(server, clip)


@pytest.mark.parametrize(
    ("seed", "code"),
    [
        pytest.param(1, "worker_crashed", id="exits"),
        pytest.param(2, "worker_crashed", id="is killed"),
        pytest.param(3, "input_crashes_pipeline", id="segfaults"),
        pytest.param(4, "worker_crashed", id="writes junk"),
        pytest.param(5, "worker_crashed", id="sends an endless line"),
        pytest.param(6, "worker_crashed", id="eats memory"),
        pytest.param(7, "internal_error", id="has a bug"),
    ],
)
def test_a_job_that_breaks_its_child_ends_and_the_next_job_finishes(
    fork_server: MakeServer, clip: Path, seed: int, code: str
) -> None:
    server = fork_server(OBEYS_SEED).start()
    found = server.wait_for(server.submit(clip, seed=seed), "error")
    assert found["error_code"] == code
    assert "/" not in found["error"] and "secret" not in found["error"]
    assert_the_next_job_finishes(server, clip)


def test_two_crashes_are_final_across_a_killed_server_and_a_retry_begins_anew(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server(OBEYS_SEED).start(crash_at="changed:queued")
    job_id = server.submit(clip, seed=SEGFAULTS)
    assert server.wait_for_end() == -signal.SIGKILL  # just after the first crash was recorded
    server.start()
    found = server.wait_for(job_id, "error")
    assert (found["error_code"], found["retryable"]) == ("input_crashes_pipeline", False)
    assert "2 attempts" in found["error"] and "SIGSEGV" in found["error"]
    assert found["error_hint"] and records(server.jobs_dir)[job_id].attempts == 2
    reply = server.http.post(f"/jobs/{job_id}/retry", json={"seed": WORKS})
    assert reply.status_code == 202
    server.wait_for(reply.json()["job_id"])
    assert_the_next_job_finishes(server, clip)


def test_after_two_kills_a_job_is_tried_a_third_time(fork_server: MakeServer, clip: Path) -> None:
    server = fork_server(OBEYS_SEED).start()
    job_id = server.submit(clip, seed=SLOWLY)
    for number in (1, 2):
        server.wait_for_stage(job_id, "motion")
        os.kill(server.child(), signal.SIGKILL)
        wait_until(lambda n=number: f"attempt {n} lost" in server.output())  # type: ignore[misc]
    assert server.wait_for(job_id)["attempt"] == 3
    assert_the_next_job_finishes(server, clip)


def test_a_job_that_uses_too_much_memory_ends_alone(fork_server: MakeServer, clip: Path) -> None:
    server = fork_server(OBEYS_SEED, CHILD_MEMORY_GB=0.3).start()
    found = server.wait_for(server.submit(clip, seed=GROWS), "error")
    assert (found["error_code"], found["retryable"]) == ("worker_crashed", True)
    assert server.output().count("used more than 0.3 GB of memory") == 3
    assert_the_next_job_finishes(server, clip)


def test_a_killed_decoder_costs_one_attempt_and_the_video_is_not_blamed(
    fork_server: MakeServer, tmp_path: Path
) -> None:
    server = fork_server(OBEYS_SEED).start()
    clip = numbered(tmp_path / "long.mp4", 120, size=(640, 480))  # some time to decode
    killed: list[int] = []

    def kill_one() -> bool:
        for pid in server.descendants():
            running = "attempt 1 starts" in server.output()
            if running and "-nostdin" in command(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
                return True
        return False

    job_id = server.submit(clip, max_frames=31)
    wait_until(kill_one)
    assert server.wait_for(job_id)["status"] == "finished"
    assert "attempt 1 lost" in server.output() or "no preview" in server.output() or not killed
    assert_the_next_job_finishes(server, clip)


def test_a_child_killed_while_idle_is_replaced(fork_server: MakeServer, clip: Path) -> None:
    server = fork_server().start()
    server.wait_for(server.submit(clip))
    os.kill(server.child(), signal.SIGKILL)
    assert_the_next_job_finishes(server, clip)


def test_a_stopped_child_is_killed_at_the_deadline(fork_server: MakeServer, clip: Path) -> None:
    server = fork_server(OBEYS_SEED, JOB_TIMEOUT=12).start()
    wait_until(lambda: server.http.get("/ready").status_code == 200)
    job_id = server.submit(clip, seed=SLOWLY)
    server.wait_for_stage(job_id, "motion")
    os.kill(server.child(), signal.SIGSTOP)
    assert server.wait_for(job_id, "error")["error_code"] == "timed_out"
    assert server.stop() == 0
    server.start(JOB_TIMEOUT=600)  # twelve seconds may be too few on a busy machine
    assert_the_next_job_finishes(server, clip)


@pytest.mark.slow
def test_a_stopped_ffmpeg_ends_with_its_job(
    fork_server: MakeServer, clip: Path, tmp_path: Path
) -> None:
    server = fork_server(OBEYS_SEED, JOB_TIMEOUT=12).start()
    wait_until(lambda: server.http.get("/ready").status_code == 200)
    job_id = server.submit(numbered(tmp_path / "long.mp4", 120, size=(640, 480)))
    stopped: set[int] = set()

    def stop_until_the_job_ends() -> bool:
        """One ffmpeg may have written all that is read of it; the next one still stops the job."""
        if (status := server.job(job_id)["status"]) == "running":
            for pid in server.descendants():
                if "-nostdin" in command(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.add(pid)
        return status not in ("queued", "running")

    wait_until(stop_until_the_job_ends)
    assert stopped and server.job(job_id)["error_code"] == "timed_out"
    wait_until(lambda: not any(is_alive(pid) for pid in stopped))
    assert server.stop() == 0
    server.start(JOB_TIMEOUT=600)
    assert_the_next_job_finishes(server, clip)


@pytest.mark.parametrize("seed", [SLEEPS_LONG, HANGS], ids=["answers", "hangs"])
def test_a_running_job_is_cancelled_in_time(fork_server: MakeServer, clip: Path, seed: int) -> None:
    """Without the cancel both would run for minutes."""
    server = fork_server(OBEYS_SEED).start()
    job_id = server.submit(clip, seed=seed)
    server.wait_for_stage(job_id, "motion")
    assert server.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    server.wait_for(job_id, "cancelled")
    assert_the_next_job_finishes(server, clip)


def test_a_running_job_can_be_deleted_and_leaves_nothing(
    fork_server: MakeServer, clip: Path
) -> None:
    server = fork_server(OBEYS_SEED).start()
    job_id = server.submit(clip, seed=SLEEPS_LONG)
    server.wait_for_stage(job_id, "motion")
    assert server.http.delete(f"/jobs/{job_id}").status_code == 200
    assert server.http.get(f"/jobs/{job_id}").status_code == 404
    assert_the_next_job_finishes(server, clip)
    assert not (server.jobs_dir / job_id).exists()
