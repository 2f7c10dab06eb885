"""What is answered while JOBS_DIR is gone, and that everything works again when it is back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from api.schemas import Ready
from job.folder import JobsFolder, JobsFolderError
from job_store import JobStore
from tests.api.bodies import ended, send, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused
from tests.waiting import wait_until

NAME = "mesh_001.glb"
UNKNOWN = "00000000-0000-4000-8000-000000000000"
Restore = Callable[[], object]


def rename(folder: Path) -> Restore:
    """Each way to lose the folder returns what brings it back."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    return lambda: aside.rename(folder)


def replace_by_a_file(folder: Path) -> Restore:
    back = rename(folder)
    folder.write_text("a file")

    def restore() -> None:
        folder.unlink()
        back()

    return restore


def replace_by_a_link(folder: Path) -> Restore:
    back = rename(folder)
    folder.symlink_to(folder.with_name("nowhere"))

    def restore() -> None:
        folder.unlink()
        back()

    return restore


def replace_its_lock_by_a_folder(folder: Path) -> Restore:
    lock, aside = folder / ".lock", folder / "aside"
    lock.rename(aside)
    lock.mkdir()

    def restore() -> None:
        lock.rmdir()
        aside.rename(lock)

    return restore


def is_healthy(client: httpx.Client) -> bool:
    reply = client.get("/health")
    assert reply.json()["status"] == ("healthy" if reply.status_code == 200 else "unhealthy")
    return reply.status_code == 200


@pytest.mark.parametrize(
    "lose", [rename, replace_by_a_file, replace_by_a_link, replace_its_lock_by_a_folder]
)
def test_a_folder_that_comes_back_has_all_its_jobs(
    serve: Serve, lose: Callable[[Path], Restore]
) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        jobs = [submit(client) for _ in range(3)]
        for job_id in jobs:
            ended(client, job_id)
        server.state.store._ended._whole.pop(jobs[0])  # as after many other jobs: only on disk
        restore = lose(server.jobs_dir)
        wait_until(lambda: not is_healthy(client))
        ready = client.get("/ready")
        assert ready.status_code == 503 and "retry-after" in ready.headers
        assert Ready.model_validate(ready.json()).reason == "storage_unavailable"
        assert client.get("/metrics").status_code == client.get("/info").status_code == 200
        assert client.get(f"/jobs/{jobs[1]}").json()["status"] == "finished"
        for reply in (
            send(client),
            client.post("/jobs", json={"video_url": "https://example.com/a.mp4"}),
            client.post(f"/jobs/{jobs[1]}/retry"),
            client.delete(f"/jobs/{jobs[1]}"),
        ):
            refused(reply, 503, "storage_unavailable")
            assert str(server.jobs_dir) not in reply.text
        unknown = [f"/jobs/{UNKNOWN}"]  # nobody can know
        if lose is not replace_its_lock_by_a_folder:
            unknown += [f"/jobs/{jobs[0]}", f"/outputs/{jobs[1]}/{NAME}"]
        for path in unknown:
            refused(client.get(path), 503, "storage_unavailable")
        restore()
        wait_until(lambda: is_healthy(client))
        assert client.get("/ready").json() == {"ready": True}
        for job_id in jobs:
            assert client.get(f"/jobs/{job_id}").json()["status"] == "finished"
            assert client.get(f"/outputs/{job_id}/{NAME}").status_code == 200
        assert len(client.get("/jobs").json()["jobs"]) == 3
        assert ended(client, submit(client))["status"] == "finished"
        assert client.delete(f"/jobs/{jobs[1]}").status_code == 200
        refused(client.get(f"/jobs/{UNKNOWN}"), 404, "job_not_found")


@pytest.mark.parametrize("name", [".lock", ".staging", ".trash", ".webhooks", ".expired"])
def test_a_part_that_a_cleaner_of_tmp_removed_is_made_again(serve: Serve, name: str) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = submit(client)
        ended(client, job_id)
        part = server.jobs_dir / name
        shutil.rmtree(part) if part.is_dir() else part.unlink()
        wait_until(part.exists)
        wait_until(lambda: client.get("/ready").status_code == 200 and is_healthy(client))
        with pytest.raises(JobsFolderError, match="in use by another server"):
            JobStore(JobsFolder(server.jobs_dir)).open()
        assert ended(client, submit(client))["status"] == "finished"
        assert client.delete(f"/jobs/{job_id}").status_code == 200


def test_a_job_whose_folder_was_removed_by_hand_is_not_found(serve: Serve) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = submit(client)
        ended(client, job_id)
        shutil.rmtree(server.jobs_dir / job_id)
        for _ in range(2):
            refused(client.delete(f"/jobs/{job_id}"), 404, "job_not_found")
        assert is_healthy(client)


def test_sequence_numbers_go_on_in_a_new_folder(tmp_path: Path) -> None:
    """Else a new job would be listed and run before older ones that are still in RAM."""
    folder = JobsFolder(tmp_path / "jobs")
    folder.open()
    last = [folder.next_sequence() for _ in range(5)][-1]
    shutil.rmtree(folder.root)
    with pytest.raises(JobsFolderError):
        folder.reopen()
    folder.root.mkdir()
    folder.reopen()
    assert folder.next_sequence() > last
    folder.close()
