"""What is answered while JOBS_DIR is gone, and that everything works again when it is back."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from api.outputs import Output, _opened
from api.schemas import Ready
from errors import OutputNotFound
from job.folder import JobsFolder, JobsFolderError
from job_store import JobStore
from settings import Settings
from tests.api.bodies import BOUNDARY, ended, frames_zip, multipart, part, send, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused
from tests.inline_executors import FinishesAtOnce
from tests.waiting import wait_until
from worker import storage_watch
from worker.loop import Worker
from worker.retention import Retention
from worker.storage_watch import StorageWatch

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


def replace_by_a_new_folder(folder: Path) -> Restore:
    back = rename(folder)
    folder.mkdir()

    def restore() -> None:
        shutil.rmtree(folder)
        back()

    return restore


def remove_the_uploads(folder: Path) -> Restore:
    shutil.rmtree(folder / ".staging")
    return lambda: None


@pytest.mark.parametrize("lose", [rename, replace_by_a_new_folder, remove_the_uploads])
def test_an_upload_that_is_received_meanwhile_is_refused_and_leaves_nothing(
    serve: Serve, lose: Callable[[Path], Restore]
) -> None:
    server = serve()
    staging = server.jobs_dir / ".staging"
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}
    whole = multipart(part("file", frames_zip(), "walk.zip"))
    restored: list[Restore] = []

    def body() -> Iterator[bytes]:
        yield whole[:-500]
        wait_until(lambda: any(staging.iterdir()))
        restored.append(lose(server.jobs_dir))
        if lose is not rename:  # it is taken before the rest arrives
            wait_until(lambda: server.state.folder.is_usable())
        yield whole[-500:]

    with httpx.Client(base_url=server.url, timeout=60) as client:
        refused(client.post("/jobs", content=body(), headers=kind), 503, "storage_unavailable")
        restored[0]()
        wait_until(lambda: client.get("/ready").status_code == 200)
        assert ended(client, submit(client))["status"] == "finished"
        wait_until(lambda: staging.is_dir() and not any(staging.iterdir()))


def test_uploads_that_are_received_now_are_not_swept_away(tmp_path: Path) -> None:
    store = JobStore(JobsFolder(tmp_path / "jobs"))
    store.open()
    received, ended_while_away = store.stage(), store.stage()
    aside = tmp_path / "aside"
    store.folder.root.rename(aside)
    ended_while_away.discard()
    aside.rename(store.folder.root)
    store.folder.empty_staging()
    assert list(store.folder.staging.iterdir()) == [received.folder]
    received.discard()
    store.close()


def test_nothing_is_swept_in_another_servers_folder(tmp_path: Path) -> None:
    ours, theirs = JobStore(JobsFolder(tmp_path / "jobs")), JobStore(JobsFolder(tmp_path / "jobs"))
    ours.open()
    ours.folder.root.rename(tmp_path / "aside")
    theirs.open()
    upload = theirs.stage()
    with pytest.raises(OSError):
        Retention(ours, ours.folder, Settings()).sweep()
    assert list(theirs.folder.staging.iterdir()) == [upload.folder]
    ours.close()
    theirs.close()


def test_a_file_that_cannot_be_opened_now_is_not_said_to_be_gone(tmp_path: Path) -> None:
    """As by a network disk, or if there are too many open files."""
    folder = JobsFolder(tmp_path / "jobs")
    folder.open()
    (tmp_path / NAME).touch()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open(os.devnull) as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            _opened(Output(tmp_path / NAME, None), folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with pytest.raises(OutputNotFound):
        _opened(Output(tmp_path / "unknown.glb", None), folder)
    folder.close()


def test_a_disk_for_which_every_thread_waits_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check itself gets no thread then."""
    monkeypatch.setattr(storage_watch, "LONGEST_CHECK_S", 0.1)
    store = JobStore(JobsFolder(tmp_path / "jobs"))
    store.open()
    worker = Worker(store, store.folder, FinishesAtOnce(), max_queue=1, keep_input=True)
    watch, disk_answers = StorageWatch(store, store.folder, worker), threading.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        waiting = loop.run_in_executor(None, disk_answers.wait)
        checking = asyncio.ensure_future(watch.run())
        await asyncio.wait_for(until(lambda: watch.problem is not None), 60)
        disk_answers.set()
        await waiting
        await asyncio.wait_for(until(lambda: watch.problem is None), 60)
        checking.cancel()

    async def until(happened: Callable[[], bool]) -> None:
        while not happened():
            await asyncio.sleep(0.02)

    asyncio.run(run())
    store.close()


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
