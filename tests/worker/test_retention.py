"""Which jobs are deleted, and which are not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from errors import JobExpired
from job.folder import JobsFolder
from job_store import JobStore
from settings import Settings
from tests.job_factory import accept, result, write_attempt
from worker.retention import Retention


class Clock:
    """A wall clock and a monotonic one that are set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        self.elapsed = 0.0

    def wall(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.elapsed

    def passes(self, **time: float) -> None:
        self.now += timedelta(**time)
        self.elapsed += timedelta(**time).total_seconds()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[JobStore]:
    opened = JobStore(JobsFolder(tmp_path / "jobs"), clock=clock.wall)
    opened.open()
    yield opened
    opened.close()


def retention(store: JobStore, clock: Clock, **settings: float) -> Retention:
    given = Settings(**settings)  # type: ignore[arg-type]
    return Retention(store, store.folder, given, clock=clock.wall, monotonic=clock.monotonic)


def finished(store: JobStore, size: int = 4) -> str:
    job_id = accept(store).job_id
    store.start(job_id)
    write_attempt(store, job_id, 1, size)
    store.folder.publish_outputs(job_id, 1, result(size))
    store.finish(job_id, result(size))
    return job_id


def test_nothing_expires_by_default(store: JobStore, clock: Clock) -> None:
    finished(store)
    keeper = retention(store, clock)
    clock.passes(hours=20)
    assert keeper.sweep() == []


def test_ended_jobs_expire_after_their_time_and_live_ones_never(
    store: JobStore, clock: Clock
) -> None:
    keeper = retention(store, clock, job_ttl_hours=2)
    old, queued = finished(store), accept(store).job_id
    clock.passes(hours=1.5)
    young = finished(store)
    assert keeper.sweep() == []
    clock.passes(hours=1)
    assert keeper.sweep() == [old]
    assert store.get(young) and store.get(queued)
    with pytest.raises(JobExpired):
        store.get(old)
    assert not store.folder.job_dir(old).exists()
    assert list((store.folder.root / ".trash").iterdir()) == []


def test_over_the_quota_the_oldest_are_deleted_first(store: JobStore, clock: Clock) -> None:
    keeper = retention(store, clock, jobs_max_gb=2e-6)
    jobs = []
    for _ in range(4):
        jobs.append(finished(store, 900))
        clock.passes(seconds=1)
    assert keeper.sweep() == jobs[:2]


@pytest.mark.parametrize("days", [-400, 400])
def test_nothing_is_deleted_after_a_clock_jump(store: JobStore, clock: Clock, days: int) -> None:
    keeper = retention(store, clock, job_ttl_hours=1)
    job_id = finished(store)
    clock.now += timedelta(days=days)
    assert keeper.sweep() == []
    clock.passes(minutes=1)
    assert keeper.sweep() == []
    assert store.get(job_id)


def test_a_clock_that_does_not_jump_back_is_trusted_after_an_hour(
    store: JobStore, clock: Clock
) -> None:
    keeper = retention(store, clock, job_ttl_hours=1)
    job_id = finished(store)
    clock.now += timedelta(days=400)
    assert keeper.sweep() == []
    clock.passes(minutes=59)
    assert keeper.sweep() == []
    clock.passes(minutes=2)
    assert keeper.sweep() == [job_id]


def test_a_clock_that_jumps_back_is_trusted(store: JobStore, clock: Clock) -> None:
    keeper = retention(store, clock, job_ttl_hours=1)
    job_id = finished(store)
    for days in (400, -400):
        clock.passes(hours=1)
        clock.now += timedelta(days=days)
        swept = keeper.sweep()
    assert swept == [job_id]


def test_an_expired_id_is_forgotten_after_a_month(store: JobStore, clock: Clock) -> None:
    clock.now = datetime.now(timezone.utc)
    keeper = retention(store, clock, job_ttl_hours=1)
    finished(store)
    clock.passes(hours=2)
    keeper.sweep()
    remembered = store.folder.root / ".expired"
    assert len(list(remembered.iterdir())) == 1
    for _ in range(40):
        clock.passes(hours=20)
        keeper.sweep()
    assert list(remembered.iterdir()) == []
