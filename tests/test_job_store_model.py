"""The store against a plain model: any sequence of calls, crashes and restarts.

A crash is a store that is opened again without a stop, or an OSError at the n-th write.
test_job_store.py and tests/faults kill real processes.
"""

from __future__ import annotations

import errno
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from errors import AlreadyFinished, JobNotFound, NoSubjectFound
from job import durable
from job.folder import JobsFolder
from job.state import Job, JobStatus
from job_store import JobStore
from tests.job_factory import accept, result, write_attempt

Q, R = JobStatus.QUEUED, JobStatus.RUNNING


class StoreAgainstModel(RuleBasedStateMachine):
    """`expected` maps each acknowledged id to the status that the store must show."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.expected: dict[str, JobStatus] = {}
        self.order: list[str] = []
        self.store = self._opened()

    def _opened(self) -> JobStore:
        store = JobStore(JobsFolder(self.root / "jobs"))
        store.open()
        return store

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)

    @rule(target=jobs)
    def accept_a_job(self) -> str:
        job = accept(self.store)
        self.expected[job.job_id] = Q
        self.order.append(job.job_id)
        return job.job_id

    @rule(job_id=jobs)
    def start(self, job_id: str) -> None:
        self._change(job_id, {Q}, R, lambda: self.store.start(job_id))

    @rule(job_id=jobs, counted=st.booleans())
    def requeue(self, job_id: str, counted: bool) -> None:
        self._change(job_id, {R}, Q, lambda: self.store.requeue(job_id, counted=counted))

    @rule(job_id=jobs)
    def finish(self, job_id: str) -> None:
        if self.expected.get(job_id) is R:
            attempt = self.store.get(job_id).attempts
            shutil.rmtree(
                self.store.folder.job_dir(job_id) / f"attempt-{attempt}", ignore_errors=True
            )
            write_attempt(self.store, job_id, attempt)
            self.store.folder.publish_outputs(job_id, attempt, result())
        self._change(job_id, {R}, JobStatus.FINISHED, lambda: self.store.finish(job_id, result()))

    @rule(job_id=jobs)
    def fail(self, job_id: str) -> None:
        error = NoSubjectFound("nothing")
        self._change(job_id, {Q, R}, JobStatus.ERROR, lambda: self.store.fail(job_id, error))

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        self._change(job_id, {Q, R}, JobStatus.CANCELLED, lambda: self.store.cancel(job_id))

    @rule(job_id=consumes(jobs))
    def delete(self, job_id: str) -> None:
        if job_id in self.expected:
            self.store.delete(job_id)
            del self.expected[job_id]

    @rule(job_id=jobs, nth=st.integers(0, 3), where=st.sampled_from(["write", "fsync_folder"]))
    def a_write_fails(self, job_id: str, nth: int, where: str) -> None:
        """ENOSPC or EIO at the n-th call: the change happens as a whole or not at all."""
        before = self.expected.get(job_id)
        with _failing(where, nth):
            try:
                self.store.cancel(job_id)
            except (OSError, AlreadyFinished, JobNotFound):
                pass
        if before in (Q, R):
            found = self.store.get(job_id).status
            assert found in (before, JobStatus.CANCELLED)
            self._reopen()
            self.expected[job_id] = self.store.get(job_id).status
            assert self.expected[job_id] in (Q, JobStatus.CANCELLED)
            self._note_returned_jobs()

    @rule()
    def crash_and_reopen(self) -> None:
        to_run = self._reopen()
        self._note_returned_jobs()
        waiting = [job_id for job_id in self.order if self.expected.get(job_id) is Q]
        assert [job.job_id for job in to_run if self.expected.get(job.job_id) is Q] == waiting

    def _reopen(self) -> list[Job]:
        self.store.close()
        self.store = self._opened()
        return self.store.recover()

    def _note_returned_jobs(self) -> None:
        """A restart returns running jobs to the queue, or finishes those that were published."""
        for job_id, status in self.expected.items():
            if status is R:
                self.expected[job_id] = self.store.get(job_id).status
                assert self.expected[job_id] in (Q, JobStatus.FINISHED, JobStatus.CANCELLED)

    def _change(self, job_id: str, legal: set[JobStatus], then: JobStatus, change: Any) -> None:
        before = self.expected.get(job_id)
        if before is None:
            with pytest.raises(JobNotFound):
                change()
        elif before in legal:
            change()
            self.expected[job_id] = then
        else:
            with pytest.raises(AlreadyFinished):
                change()

    @invariant()
    def the_store_shows_what_the_model_says(self) -> None:
        for job_id, status in self.expected.items():
            assert self.store.get(job_id).status is status
        on_disk = {p.name for p in self.store.folder.root.iterdir() if not p.name.startswith(".")}
        assert on_disk == set(self.expected)


class _failing:
    """The n-th call of a function of job/durable.py raises ENOSPC."""

    def __init__(self, name: str, nth: int) -> None:
        self.name, self.left, self.real = name, nth, getattr(durable, name)

    def __enter__(self) -> None:
        def failing(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.real(*args, **kwargs)

        setattr(durable, self.name, failing)

    def __exit__(self, *_: object) -> None:
        setattr(durable, self.name, self.real)


TestStoreAgainstModel = StoreAgainstModel.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
