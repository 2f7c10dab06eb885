"""The store's promises: accepted jobs stay, records are complete or quarantined."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from errors import AlreadyFinished, JobExpired, JobNotFound, NoSubjectFound
from job.folder import JobsFolder, JobsFolderError
from job.index import JobSummary, read_summary
from job.options import JobOptions
from job.state import SCHEMA, Job, JobStatus
from job.task import Progress
from job_store import JobStore
from tests.job_factory import accept, result, write_attempt

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(JobsFolder(tmp_path / "jobs"))
    opened.open()
    yield opened
    opened.close()


def reopened(store: JobStore) -> tuple[JobStore, list[Job]]:
    """What the next server sees."""
    store.close()
    again = JobStore(JobsFolder(store.folder.root))
    again.open()
    return again, again.recover()


def quarantined(store: JobStore) -> list[Path]:
    return list((store.folder.root / ".quarantine").iterdir())


def finish(store: JobStore, job: Job) -> Job:
    store.start(job.job_id)
    write_attempt(store, job.job_id, 1)
    store.folder.publish_outputs(job.job_id, 1, result())
    return store.finish(job.job_id, result())


def test_an_accepted_job_is_on_disk_with_its_input(store: JobStore) -> None:
    job = accept(store)
    assert (store.folder.job_dir(job.job_id) / "input").read_bytes() == b"video"
    again, to_run = reopened(store)
    assert to_run == [job]
    again.close()


def test_a_stored_record_is_read_unchanged(store: JobStore) -> None:
    job = finish(store, accept(store, warnings=({"code": "a", "message": "é\n"},)))
    assert Job.from_dict(json.loads(store.folder.record_path(job.job_id).read_bytes())) == job


def test_queued_jobs_return_in_their_order_and_a_running_one_keeps_its_place(
    store: JobStore,
) -> None:
    jobs = [accept(store) for _ in range(3)]
    store.start(jobs[0].job_id)
    again, to_run = reopened(store)
    assert [job.job_id for job in to_run] == [job.job_id for job in jobs]
    assert to_run[0].status is JobStatus.QUEUED and to_run[0].attempts == 1
    later = accept(again)
    assert later.sequence > jobs[-1].sequence
    again.close()


def test_a_requeued_attempt_is_not_counted(store: JobStore) -> None:
    job = accept(store)
    store.start(job.job_id)
    assert store.requeue(job.job_id, counted=False).attempts == 0


def test_published_outputs_finish_the_job_after_a_crash(
    store: JobStore,
) -> None:
    job = accept(store)
    store.start(job.job_id)
    write_attempt(store, job.job_id, 1)
    store.folder.publish_outputs(job.job_id, 1, result())
    again, to_run = reopened(store)
    assert to_run == []
    assert again.get(job.job_id).status is JobStatus.FINISHED
    again.close()


def test_an_incomplete_attempt_is_removed_and_run_again(store: JobStore) -> None:
    job = accept(store)
    store.start(job.job_id)
    write_attempt(store, job.job_id, 1)
    again, to_run = reopened(store)
    assert [left.job_id for left in to_run] == [job.job_id]
    assert not (again.folder.job_dir(job.job_id) / "attempt-1").exists()
    again.close()


def test_a_cancel_before_a_crash_is_done_after_the_restart(store: JobStore) -> None:
    job = accept(store)
    store.start(job.job_id)
    store.request_cancel(job.job_id)
    again, to_run = reopened(store)
    assert to_run == [] and again.get(job.job_id).status is JobStatus.CANCELLED
    again.close()


def test_ended_jobs_do_not_change_any_more(store: JobStore) -> None:
    job = finish(store, accept(store))
    for change in (store.start, store.cancel, store.request_cancel):
        with pytest.raises(AlreadyFinished):
            change(job.job_id)
    with pytest.raises(AlreadyFinished):
        store.fail(job.job_id, NoSubjectFound("late"))


def test_progress_after_the_end_is_ignored(store: JobStore) -> None:
    job = finish(store, accept(store))
    store.report(job.job_id, Progress("motion", 1, 2, 0.5))
    assert store.get(job.job_id).progress is None


def test_progress_reaches_ram_at_once_and_the_disk_once_a_second(store: JobStore) -> None:
    job = accept(store)
    store.start(job.job_id)
    before = store.folder.record_path(job.job_id).stat().st_mtime_ns
    for step in range(50):
        store.report(job.job_id, Progress("motion", step, 50, step / 50))
    assert store.get(job.job_id).progress == Progress("motion", 49, 50, 0.98)
    assert store.folder.record_path(job.job_id).stat().st_mtime_ns == before


def test_truncated_records_are_quarantined(store: JobStore) -> None:
    job = accept(store)
    record = store.folder.record_path(job.job_id)
    whole = record.read_bytes()
    for cut in range(0, len(whole) - 1, 7):
        record.write_bytes(whole[:cut])
        again, to_run = reopened(store)
        assert to_run == []
        with pytest.raises(JobNotFound):
            again.get(job.job_id)
        (aside,) = quarantined(store)
        os.rename(aside, store.folder.job_dir(job.job_id))
        store = again
    store.close()


@pytest.mark.parametrize(
    "foreign", [b"[]\n", b"null", b'{"schema":1}', b"\xff\xfe", b'{"a":' * 5000, b"{}" * 9]
)
def test_invalid_records_are_quarantined(store: JobStore, foreign: bytes) -> None:
    job = accept(store)
    store.folder.record_path(job.job_id).write_bytes(foreign)
    again, to_run = reopened(store)
    assert to_run == [] and len(quarantined(again)) == 1
    again.close()


def as_written_before(record: dict[str, Any], schema: int) -> dict[str, Any]:
    """As earlier versions wrote it: other names, and fewer options."""
    old = {**record, "schema": schema, "options": {"mode": "default", "formats": []}}
    if old["result"]:
        del old["result"]["subject"]
        if schema == 1:
            old["result"]["notices"] = old["result"].pop("warnings")
    if old["progress"]:
        has_anchor = old["progress"].pop("ready") == ["anchor.glb"]
        old["progress"]["preview_mesh" if schema == 1 else "has_anchor"] = has_anchor
    return old


@pytest.mark.parametrize("schema", [1, 2])
def test_records_of_earlier_schemas_are_read(store: JobStore, schema: int) -> None:
    ended, running = finish(store, accept(store)), accept(store)
    store.start(running.job_id)
    store.report(running.job_id, Progress("motion", 1, 2, 0.5, "", ("anchor.glb",)))
    running = store.get(running.job_id)
    for job in (ended, running):
        old = as_written_before(json.loads(json.dumps(job.to_dict())), schema)
        store.folder.record_path(job.job_id).write_text(json.dumps(old, separators=(",", ":")))
        options = JobOptions(mode="default")
        assert Job.from_dict(old) == replace(job, options=options)
    again, to_run = reopened(store)
    assert [job.job_id for job in to_run] == [running.job_id]
    assert again.get(ended.job_id) == replace(ended, options=JobOptions(mode="default"))
    again.close()


def test_a_newer_schema_is_not_touched(store: JobStore) -> None:
    job = accept(store)
    record = store.folder.record_path(job.job_id)
    newer = {**json.loads(record.read_bytes()), "schema": SCHEMA + 1, "new": True}
    record.write_text(json.dumps(newer))
    again, to_run = reopened(store)
    assert to_run == [] and len(quarantined(again)) == 0
    assert json.loads(record.read_bytes()) == newer
    again.close()


def test_a_record_in_another_jobs_folder_is_quarantined(store: JobStore) -> None:
    one, two = accept(store), accept(store)
    os.replace(store.folder.record_path(one.job_id), store.folder.record_path(two.job_id))
    again, to_run = reopened(store)
    assert to_run == [] and len(quarantined(again)) == 2
    again.close()


def test_folders_that_are_not_jobs_are_not_touched(store: JobStore) -> None:
    (store.folder.root / "lost+found").mkdir()
    again, _ = reopened(store)
    assert (store.folder.root / "lost+found").is_dir()
    again.close()


def test_a_second_server_is_refused_with_the_pid_of_the_first(store: JobStore) -> None:
    with pytest.raises(JobsFolderError, match=f"pid {os.getpid()}"):
        JobStore(JobsFolder(store.folder.root)).open()


def test_only_the_owner_can_read_the_folder(store: JobStore) -> None:
    assert store.folder.root.stat().st_mode & 0o777 == 0o700


def test_staging_left_by_a_crash_is_removed(store: JobStore) -> None:
    staging = store.stage()
    staging.input.write_bytes(b"half")
    again, _ = reopened(store)
    assert list(again.folder.staging.iterdir()) == []
    again.close()


def test_a_deleted_job_is_not_found_and_an_expired_one_is_expired(store: JobStore) -> None:
    one, two = finish(store, accept(store)), finish(store, accept(store))
    store.delete(one.job_id)
    store.delete(two.job_id, expired=True)
    with pytest.raises(JobNotFound):
        store.get(one.job_id)
    with pytest.raises(JobExpired):
        store.get(two.job_id)
    with pytest.raises(JobNotFound):
        store.delete(one.job_id)
    store.folder.empty_trash()
    assert list((store.folder.root / ".trash").iterdir()) == []


def test_a_job_whose_folder_is_missing_is_not_found_by_a_change(store: JobStore) -> None:
    job = accept(store)
    shutil.rmtree(store.folder.job_dir(job.job_id))
    with pytest.raises(JobNotFound):
        store.start(job.job_id)
    assert store.peek(job.job_id) is None


@pytest.mark.parametrize("job_id", ["", "..", "../x", "A" * 36, "x" * 4000, "\0", "0" * 36])
def test_an_invalid_job_id_is_never_used_as_a_path(store: JobStore, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        store.get(job_id)


def test_pages_are_newest_first_and_complete(store: JobStore) -> None:
    jobs = [accept(store) for _ in range(7)]
    for job in jobs[::2]:
        finish(store, job)
    everything, seen, cursor = frozenset(JobStatus), [], None
    while True:
        ids, cursor = store.page(everything, 3, cursor)
        seen += ids
        if cursor is None:
            break
    assert seen == [job.job_id for job in reversed(jobs)]
    ids, _ = store.page(frozenset({JobStatus.QUEUED}), 10, None)
    assert ids == [job.job_id for job in reversed(jobs[1::2])]


def test_old_jobs_are_read_from_disk(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("job.index.WHOLE_JOBS", 2)
    jobs = [finish(store, accept(store)) for _ in range(4)]
    assert store.peek(jobs[0].job_id) is None
    assert store.get(jobs[0].job_id) == jobs[0]


@pytest.mark.parametrize(
    ("step", "kept"),
    [
        ("accept:input_synced", False),
        ("write:job.json:before_rename", False),
        ("accept:staged", False),
        ("accept:committed", True),
    ],
)
def test_killed_during_acceptance_a_job_exists_completely_or_not_at_all(
    tmp_path: Path, step: str, kept: bool
) -> None:
    code = (
        "import sys; from pathlib import Path; from job.folder import JobsFolder, JobsFolder;"
        "from job_store import JobStore; from tests.job_factory import accept;"
        "s = JobStore(JobsFolder(Path(sys.argv[1]))); s.open(); accept(s)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env={**os.environ, "CRASH_AT": step}
    )
    assert done.returncode == -9
    store = JobStore(JobsFolder(tmp_path))
    store.open()
    assert len(store.recover()) == kept
    assert list(store.folder.staging.iterdir()) == []
    store.close()


def test_the_head_of_a_record_is_enough_for_the_index(store: JobStore) -> None:
    """Without it a start would be slower, and no other test would fail."""
    key = {"key": "a" * 64, "hash": "b" * 64}
    queued = accept(store)
    ended = finish(store, accept(store, idempotency=key))
    contents = [store.folder.read_record(job.job_id) or b"" for job in (queued, ended)]
    expected = JobSummary.from_record(ended.to_dict())
    assert [read_summary(content) for content in contents] == [None, expected]
    assert read_summary(contents[1][:-9]) is None  # incomplete


def test_a_record_that_cannot_be_opened_now_is_not_quarantined(store: JobStore) -> None:
    job = accept(store)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            store.folder.read_record(job.job_id)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert reopened(store)[1] == [job]


def test_a_scan_at_the_start_finds_no_job_twice(store: JobStore) -> None:
    accept(store)
    assert store.recover() == []


def test_a_job_whose_folder_was_removed_by_hand_is_forgotten(store: JobStore) -> None:
    job = accept(store)
    shutil.rmtree(store.folder.job_dir(job.job_id))
    store.forget(job.job_id)
    assert store.live() == []
    with pytest.raises(JobNotFound):
        store.get(job.job_id)
