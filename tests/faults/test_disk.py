"""A disk that becomes full at any step: records stay valid, the server reports it and continues."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.faults.conftest import MakeServer
from tests.faults.disk import SmallDisk
from tests.faults.inspection import faults, records
from tests.faults.server import Refused, Server, start_of_upload
from tests.waiting import wait_until

OBEYS_SEED = "tests.pipelines:ObeysSeed"
SLOWLY = 11


@pytest.fixture
def server(fork_server: MakeServer, disk: SmallDisk) -> Server:
    return fork_server(OBEYS_SEED, JOBS_DIR=disk.folder / "jobs", MAX_UPLOAD_SIZE=3_000_000)


def assert_all_is_well(server: Server, clip: Path) -> None:
    server.wait_for(server.submit(clip))
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []
    server.assert_no_orphans()


def test_an_export_that_fills_the_disk_fails_and_the_next_job_finishes(
    server: Server, disk: SmallDisk, clip: Path
) -> None:
    server.start()
    job_id = server.submit(clip, seed=SLOWLY)
    server.wait_for_stage(job_id, "motion")
    disk.fill()
    wait_until(
        lambda: server.job(job_id)["status"] == "error" or "cannot be written" in server.output(),
        30.0,
    )
    assert server.http.get("/health").status_code == 200
    disk.release()
    found = server.wait_for(job_id, "error")
    assert (found["error_code"], found["retryable"]) == ("disk_full", True)
    assert_all_is_well(server, clip)


def test_an_upload_that_fills_the_disk_is_refused_and_leaves_nothing(
    server: Server, disk: SmallDisk, clip: Path
) -> None:
    server.start()
    body = bytes(2_500_000)
    with socket.create_connection(("127.0.0.1", server.port)) as upload:
        upload.sendall(start_of_upload(len(body) + 200, body[:1_500_000]))
        staging = server.jobs_dir / ".staging"
        wait_until(lambda: any(path.stat().st_size for path in staging.glob("*/input")))
        disk.fill()
        upload.sendall(body[1_500_000:])
        upload.settimeout(30)
        reply = upload.recv(1 << 16)
        while b"insufficient_storage" not in reply and (more := upload.recv(1 << 16)):
            reply += more
    assert reply.startswith(b"HTTP/1.1 507 ") and b"insufficient_storage" in reply
    wait_until(lambda: not list(staging.iterdir()))
    with pytest.raises(Refused) as refused:
        server.submit(clip)
    assert refused.value.status == 507
    disk.release()
    assert_all_is_well(server, clip)


def test_on_a_full_disk_finished_jobs_are_served_and_can_be_deleted(
    server: Server, disk: SmallDisk, clip: Path
) -> None:
    server.start()
    job_id = server.submit(clip)
    server.wait_for(job_id)
    disk.fill()
    assert server.stop() == 0
    server.start()  # a start on a full disk
    name = f"/outputs/{job_id}/mesh_000.glb"
    wait_until(lambda: server.http.get(name).status_code == 200)
    assert server.http.delete(f"/jobs/{job_id}").status_code == 200
    assert server.http.get(f"/jobs/{job_id}").status_code == 404
    disk.release()
    assert_all_is_well(server, clip)


def test_without_reserved_space_no_job_is_accepted_and_ready_gives_the_reason(
    server: Server, disk: SmallDisk, clip: Path
) -> None:
    server.start(MIN_FREE_GB=1)
    with pytest.raises(Refused) as refused:
        server.submit(clip)
    assert refused.value.status == 507 and refused.value.body["code"] == "insufficient_storage"
    wait_until(lambda: server.http.get("/ready").json().get("reason") == "disk_full")


def test_a_queued_job_waits_for_the_disk(server: Server, disk: SmallDisk, clip: Path) -> None:
    server.start(crash_at="run:started")
    with contextlib.suppress(Refused):  # it may die before it answers
        server.submit(clip)
    server.wait_for_end()
    (job_id,) = records(server.jobs_dir)
    disk.fill()
    server.start()
    wait_until(lambda: "cannot be written" in server.output())
    time.sleep(0.5)
    assert server.job(job_id)["status"] == "queued"
    disk.release()
    server.wait_for(job_id)
    assert_all_is_well(server, clip)
