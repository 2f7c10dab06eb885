"""JOBS_DIR that vanishes, is replaced or turns read-only under a running server, and comes back.

tests/api/test_storage.py has what every address answers meanwhile.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import MakeServer
from tests.faults.disk import SmallDisk
from tests.faults.inspection import faults
from tests.faults.server import Refused, Server
from tests.waiting import wait_until

OBEYS_SEED = "tests.pipelines:ObeysSeed"
SLOWLY = 11


@pytest.fixture
def server(fork_server: MakeServer) -> Server:
    return fork_server(OBEYS_SEED)


def is_unusable(server: Server) -> bool:
    """True once /health says so; it answers from memory, a moment later."""
    reply = server.http.get("/health")
    assert reply.json()["status"] == ("healthy" if reply.status_code == 200 else "unhealthy")
    return reply.status_code == 503


def assert_it_is_reported(server: Server, clip: Path, known: str) -> None:
    """Every address tells the truth while nothing can be stored. `known` is a job in RAM."""
    wait_until(lambda: is_unusable(server))
    ready = server.http.get("/ready")
    assert (ready.status_code, ready.json()["reason"]) == (503, "storage_unavailable")
    assert "retry-after" in ready.headers
    with pytest.raises(Refused) as refused:
        server.submit(clip)
    assert (refused.value.status, refused.value.body["code"]) == (503, "storage_unavailable")
    for method, path in (("POST", f"/jobs/{known}/retry"), ("DELETE", f"/jobs/{known}")):
        reply = server.http.request(method, path)
        assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable"), path
    metrics = server.http.get("/metrics")
    assert metrics.status_code == 200 and "actionmesh_disk_free_bytes" in metrics.text
    assert server.job(known)["status"] == "finished"
    assert server.http.get("/info").status_code == server.http.get("/").status_code == 200


def assert_it_works_again(server: Server, clip: Path) -> None:
    wait_until(lambda: not is_unusable(server))
    wait_until(lambda: server.http.get("/ready").status_code == 200)
    server.wait_for(server.submit(clip))


def assert_job_is_there(server: Server, job_id: str) -> None:
    job = server.job(job_id)
    assert job["status"] == "finished"
    for file in job["files"]:
        reply = server.http.get(f"/outputs/{job_id}/{file['name']}")
        assert (reply.status_code, len(reply.content)) == (200, file["bytes"])


def rename(folder: Path) -> Callable[[], object]:
    """Returns what brings it back."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    return lambda: aside.rename(folder)


def test_a_new_empty_folder_is_taken_and_locked_and_the_old_one_is_read_when_it_is_back(
    server: Server, clip: Path, fork_server: MakeServer
) -> None:
    server.start()
    old = server.submit(clip)
    server.wait_for(old)
    aside = server.jobs_dir.with_name("aside")
    server.jobs_dir.rename(aside)
    wait_until(lambda: is_unusable(server))
    server.jobs_dir.mkdir()
    assert_it_works_again(server, clip)
    assert server.http.get(f"/jobs/{old}").status_code == 404
    second = fork_server(OBEYS_SEED)  # on the same JOBS_DIR
    second.start(crash_at="never")
    assert not second.is_running and "in use by another server" in second.output()
    shutil.rmtree(server.jobs_dir)
    wait_until(lambda: is_unusable(server))
    aside.rename(server.jobs_dir)
    assert_it_works_again(server, clip)
    assert_job_is_there(server, old)
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []


@pytest.mark.slow
def test_a_folder_that_another_server_has_is_not_taken(
    server: Server, clip: Path, fork_server: MakeServer
) -> None:
    server.start()
    server.jobs_dir.rename(server.jobs_dir.with_name("aside"))
    second = fork_server(OBEYS_SEED).start()
    job_id = second.submit(clip)
    second.wait_for(job_id)
    wait_until(lambda: "in use by another server" in server.output())
    assert is_unusable(server) and not is_unusable(second)
    with pytest.raises(Refused) as refused:
        server.submit(clip)
    assert refused.value.status == 503
    assert second.stop() == 0
    assert_it_works_again(server, clip)
    assert_job_is_there(server, job_id)


def test_a_job_that_runs_meanwhile_is_repeated_and_one_that_waits_runs(
    server: Server, clip: Path
) -> None:
    server.start()
    running, waiting = server.submit(clip, seed=SLOWLY), server.submit(clip)
    server.wait_for_stage(running, "motion")
    restore = rename(server.jobs_dir)
    wait_until(lambda: is_unusable(server))
    assert server.job(waiting)["status"] == "queued"
    reply = server.http.post(f"/jobs/{waiting}/cancel")
    assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable")
    wait_until(lambda: "waiting for it" in server.output())
    assert server.job(running)["status"] == "running"
    restore()
    assert server.wait_for(running)["attempt"] == 1  # the lost one is not counted
    server.wait_for(waiting)
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []


@pytest.mark.slow
def test_stopped_while_its_folder_is_gone_the_next_server_runs_the_jobs(
    server: Server, clip: Path
) -> None:
    server.start()
    job_id = server.submit(clip, seed=SLOWLY)
    server.wait_for_stage(job_id, "motion")
    restore = rename(server.jobs_dir)
    wait_until(lambda: is_unusable(server))
    assert server.stop() == 0
    restore()
    server.start()
    server.wait_for(job_id)
    server.assert_no_orphans()


@pytest.mark.parametrize("lose", [SmallDisk.cover, SmallDisk.make_read_only])
def test_a_disk_that_is_unmounted_or_read_only_heals_when_it_is_back(
    fork_server: MakeServer, disk: SmallDisk, clip: Path, lose: Callable[[SmallDisk], None]
) -> None:
    server = fork_server(OBEYS_SEED, JOBS_DIR=disk.folder / "jobs").start()
    job_id = server.submit(clip)
    server.wait_for(job_id)
    lose(disk)
    try:
        assert_it_is_reported(server, clip, job_id)
    finally:
        disk.uncover()
    assert_it_works_again(server, clip)
    assert_job_is_there(server, job_id)
    assert server.stop() == 0
    assert faults(server.jobs_dir) == []
