"""A real server whose n-th call to the disk fails, for every n from a job's upload to its deletion.

Whichever call fails, the client gets an answer that stays true, the job ends, the next job
finishes, and after a restart every file is valid.
"""

from __future__ import annotations

import errno
from pathlib import Path

import httpx
import pytest

from job.folder import JobsFolder
from job_store import JobStore
from tests.api.bodies import ended, send, submit
from tests.faults.failing_calls import failing_calls
from tests.faults.inspection import faults, records
from tests.inline_executors import FinishesAtOnce
from tests.servers import ThreadServer, thread_server
from tests.waiting import wait_until
from worker import attempt, retention

MOST_CALLS = 200


def submit_and_delete_a_job(client: httpx.Client) -> tuple[str, bool]:
    """Id of the accepted job ("" if none was), and whether its deletion was confirmed."""
    reply = send(client)
    if reply.status_code != 202:
        codes = {500: "internal_error", 503: "storage_unavailable", 507: "insufficient_storage"}
        assert reply.json()["code"] == codes.get(reply.status_code), reply.text
        return "", False
    job_id = str(reply.json()["job_id"])
    job = ended(client, job_id)
    assert job["status"] == "finished" or job["error_code"] in ("disk_full", "internal_error"), job
    again = client.post(f"/jobs/{job_id}/retry", json={"seed": 7})
    if again.status_code == 202:
        ended(client, again.json()["job_id"])
    return job_id, client.delete(f"/jobs/{job_id}").status_code == 200


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("error", "times"),
    [
        pytest.param(errno.EIO, 1, id="EIO once"),
        pytest.param(errno.ENOSPC, 3, id="ENOSPC thrice", marks=pytest.mark.slow),
    ],
)
def test_if_any_call_fails_every_answer_stays_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, times: int
) -> None:
    monkeypatch.setattr(attempt, "DISK_PAUSE_S", 0.02)
    monkeypatch.setattr(retention, "SWEEP_EVERY_S", 0.1)
    jobs_dir = tmp_path / "jobs"
    with thread_server(jobs_dir, FinishesAtOnce()) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            submit(client)  # the very first job writes more files
            for first in range(MOST_CALLS):
                with failing_calls(jobs_dir, first, times, error) as calls:
                    job_id, deleted = submit_and_delete_a_job(client)
                if not calls.failed:
                    break
                assert_its_answers_are_true(server, client, job_id, deleted, calls.failed)
            else:
                pytest.fail("a job makes more calls than MOST_CALLS")
    uploads = [call for call in calls.made if call.startswith("write .staging/")]
    assert any(call.endswith("/input") for call in uploads), calls.made
    assert len(calls.made) > 50
    store = JobStore(JobsFolder(jobs_dir))
    store.open()
    assert store.recover() == []
    store.close()
    assert faults(jobs_dir) == []


def assert_its_answers_are_true(
    server: ThreadServer, client: httpx.Client, job_id: str, deleted: bool, failed: list[str]
) -> None:
    """On the disk, in memory, and for the next job."""
    try:
        wait_until(lambda: faults(server.jobs_dir) == [])
    except AssertionError:
        pytest.fail(f"{faults(server.jobs_dir)} after {failed}")
    wait_until(lambda: server.reserved_places() == 0)
    on_disk = set(records(server.jobs_dir))
    listed = {job["job_id"] for job in client.get("/jobs?limit=100").json()["jobs"]}
    assert listed == on_disk, failed
    assert not (deleted and job_id in on_disk), failed
    if job_id:
        found = client.get(f"/jobs/{job_id}").status_code
        assert found == (200 if job_id in on_disk else 404), failed
    assert ended(client, submit(client))["status"] == "finished", failed
    for left in listed:
        assert client.delete(f"/jobs/{left}").status_code == 200, failed
