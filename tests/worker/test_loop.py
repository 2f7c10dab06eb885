"""The loop: one job after another, and every way an attempt can end."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from errors import AlreadyFinished, Draining, JobNotFound, QueueFull
from executors.base import Executor
from job.folder import JobsFolder
from job.options import JobOptions
from job.state import Job, JobStatus
from job.task import MAX_ATTEMPTS, Event, Progress, Task
from job_store import JobStore
from tests.inline_executors import (
    Events,
    FindsNoSubject,
    FinishesAtOnce,
    LosesWorkers,
    WaitsForPermission,
)
from tests.job_factory import FACTS, accept
from tests.waiting import wait_until
from worker.loop import Worker
from worker.queue import JobQueue


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(JobsFolder(tmp_path / "jobs"))
    opened.open()
    yield opened
    opened.close()


def submitted(store: JobStore, worker: Worker) -> str:
    job_id = accept(store).job_id
    worker.queue.reserve()
    worker.queue.submit(job_id)
    return job_id


def run_until_recovered(worker: Worker) -> None:
    """As at the start of a server."""
    worker.start()
    assert worker.recovered.wait(10)
    worker.stop(grace_s=1.0)


def status(store: JobStore, job_id: str) -> JobStatus:
    return store.get(job_id).status


def test_a_job_is_run_and_its_files_are_published(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    job_id = submitted(store, worker)
    assert worker.run_once(0)
    job = store.get(job_id)
    assert job.status is JobStatus.FINISHED and job.attempts == 1
    outputs = {path.name for path in store.folder.outputs(job_id).iterdir()}
    assert job.result is not None
    assert {file.name for file in job.result.files} | {"result.json"} == outputs
    assert {path.name for path in store.folder.job_dir(job_id).iterdir()} == {
        "input", "job.json", "outputs",
    }  # fmt: skip


def test_an_empty_queue_starts_no_job(store: JobStore) -> None:
    assert not Worker(store, store.folder, FinishesAtOnce()).run_once(0)


def test_a_lost_attempt_is_tried_again_before_the_others(store: JobStore) -> None:
    executor = LosesWorkers(1)
    worker = Worker(store, store.folder, executor)
    first, second = submitted(store, worker), submitted(store, worker)
    for _ in range(3):
        worker.run_once(0)
    assert [task.job_id for task in executor.tasks] == [first, first, second]
    assert store.get(first).attempts == 2
    assert status(store, first) is status(store, second) is JobStatus.FINISHED
    assert not list(store.folder.job_dir(first).glob("attempt-*"))


def test_a_job_that_loses_its_process_three_times_fails(store: JobStore) -> None:
    worker = Worker(store, store.folder, LosesWorkers(99))
    job_id = submitted(store, worker)
    for _ in range(MAX_ATTEMPTS):
        assert worker.run_once(0)
    job = store.get(job_id)
    assert job.error is not None and job.error["code"] == "worker_crashed"
    assert job.error["facts"] == {"attempts": MAX_ATTEMPTS}
    assert not worker.run_once(0)


@pytest.mark.parametrize(
    ("crashes", "code", "attempts"),
    [
        pytest.param(("SIGSEGV", "SIGSEGV"), "input_crashes_pipeline", 2, id="twice"),
        pytest.param(("SIGABRT", "", "SIGBUS"), "input_crashes_pipeline", 3, id="and a kill"),
        pytest.param(("", "SIGSEGV", ""), "worker_crashed", 3, id="once"),
        pytest.param(("", "", ""), "worker_crashed", 3, id="only kills"),
    ],
)
def test_a_job_fails_at_its_second_crash_or_its_third_loss(
    store: JobStore, crashes: tuple[str, ...], code: str, attempts: int
) -> None:
    executor = LosesWorkers(99, crashes)
    worker = Worker(store, store.folder, executor)
    job_id = submitted(store, worker)
    while store.get(job_id).status is not JobStatus.ERROR:
        assert worker.run_once(0)
    job = store.get(job_id)
    assert job.error is not None and job.error["code"] == code
    assert job.error["retryable"] is (code == "worker_crashed")
    assert len(executor.tasks) == attempts
    assert not list(store.folder.job_dir(job_id).glob("attempt-*"))
    if code == "input_crashes_pipeline":
        assert job.error["facts"] == {
            "crashes": 2, "stage": "extracting", "signal": crashes[-1]
        }  # fmt: skip


def test_crashes_under_an_earlier_server_count(store: JobStore, tmp_path: Path) -> None:
    first = Worker(store, store.folder, LosesWorkers(1, ("SIGSEGV",)))
    job_id = submitted(store, first)
    first.run_once(0)
    store.close()
    reopened = JobStore(JobsFolder(tmp_path / "jobs"))
    reopened.open()
    executor = LosesWorkers(1, ("SIGSEGV",))
    second = Worker(reopened, reopened.folder, executor)
    second.start()
    wait_until(lambda: reopened.get(job_id).status is JobStatus.ERROR)
    second.stop()
    job = reopened.get(job_id)
    assert job.error is not None and job.error["code"] == "input_crashes_pipeline"
    assert len(executor.tasks) == 1
    reopened.close()


def test_attempts_of_earlier_servers_count(store: JobStore, tmp_path: Path) -> None:
    job_id = accept(store).job_id
    for _ in range(MAX_ATTEMPTS):
        store.start(job_id)
        store.requeue(job_id, counted=True)
    store.close()
    reopened = JobStore(JobsFolder(tmp_path / "jobs"))
    reopened.open()
    run_until_recovered(Worker(reopened, reopened.folder, FinishesAtOnce()))
    assert reopened.get(job_id).status is JobStatus.ERROR
    reopened.close()


def test_a_job_without_a_folder_does_not_block_the_next_one(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    first, second = submitted(store, worker), submitted(store, worker)
    shutil.rmtree(store.folder.job_dir(first))
    assert worker.run_once(0) and worker.run_once(0)
    assert status(store, second) is JobStatus.FINISHED
    with pytest.raises(JobNotFound):
        store.get(first)


def test_a_failed_job_has_an_error_and_the_next_one_runs(store: JobStore) -> None:
    worker = Worker(store, store.folder, FindsNoSubject())
    job_id = submitted(store, worker)
    worker.run_once(0)
    job = store.get(job_id)
    assert job.status is JobStatus.ERROR
    assert job.error is not None and job.error["code"] == "no_subject_found"


def test_a_bug_in_an_executor_ends_the_job_and_not_the_loop(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    class HasABug(FinishesAtOnce):
        def attempt(self, task: Task) -> Events:
            yield Progress("motion", 1, 2, 0.5)
            raise RuntimeError("secret")

    worker = Worker(store, store.folder, HasABug())
    job_id = submitted(store, worker)
    assert worker.run_once(0)
    job = store.get(job_id)
    assert job.error is not None and job.error["code"] == "internal_error"
    assert "secret" not in str(job.error) and "secret" in caplog.text


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    job_id = submitted(store, worker)
    assert worker.cancel(job_id).status is JobStatus.CANCELLED
    assert not worker.run_once(0)
    with pytest.raises(AlreadyFinished):
        worker.cancel(job_id)


@pytest.fixture
def running(store: JobStore) -> Iterator[tuple[Worker, WaitsForPermission]]:
    """A started worker whose jobs wait."""
    executor = WaitsForPermission()
    worker = Worker(store, store.folder, executor)
    worker.start()
    yield worker, executor
    executor.permission.set()
    worker.stop(grace_s=1.0)


def test_a_running_job_is_cancelled_and_the_next_one_is_not(
    store: JobStore, running: tuple[Worker, WaitsForPermission]
) -> None:
    worker, executor = running
    first, second = submitted(store, worker), submitted(store, worker)
    assert executor.started.wait(60)
    assert worker.cancel(first).cancel_requested
    wait_until(lambda: status(store, first) is JobStatus.CANCELLED)
    executor.permission.set()
    wait_until(lambda: status(store, second) is JobStatus.FINISHED)


def test_a_running_job_can_be_deleted(
    store: JobStore, running: tuple[Worker, WaitsForPermission]
) -> None:
    worker, executor = running
    first, second = submitted(store, worker), submitted(store, worker)
    assert executor.started.wait(60)
    worker.delete(first)
    with pytest.raises(JobNotFound):
        store.get(first)
    executor.permission.set()
    wait_until(lambda: status(store, second) is JobStatus.FINISHED)
    assert worker.is_alive and not store.folder.job_dir(first).exists()


@pytest.mark.parametrize("keep", [True, False])
def test_inputs_are_kept_only_with_keep_input(store: JobStore, keep: bool) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce(), keep_input=keep)
    finished, cancelled = submitted(store, worker), submitted(store, worker)
    worker.cancel(cancelled)
    worker.run_once(0)
    for job_id in (finished, cancelled):
        assert (store.folder.job_dir(job_id) / "input").exists() is keep


def test_a_stop_requeues_the_attempt(store: JobStore) -> None:
    executor = WaitsForPermission()
    worker = Worker(store, store.folder, executor)
    worker.start()
    job_id = submitted(store, worker)
    assert executor.started.wait(60)
    worker.stop(grace_s=0.1)
    job = store.get(job_id)
    assert job.status is JobStatus.QUEUED and job.attempts == 0
    assert not worker.is_alive
    with pytest.raises(Draining):
        worker.queue.reserve()


def test_a_job_that_ends_within_the_grace_is_finished(store: JobStore) -> None:
    executor = WaitsForPermission()
    worker = Worker(store, store.folder, executor)
    worker.start()
    job_id = submitted(store, worker)
    assert executor.started.wait(60)
    threading.Timer(0.2, executor.permission.set).start()
    worker.stop(grace_s=5.0)
    assert status(store, job_id) is JobStatus.FINISHED


def test_an_input_that_a_killed_server_did_not_remove_is_removed_at_the_next_start(
    store: JobStore,
) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    job_id = submitted(store, worker)
    worker.run_once(0)
    assert (store.folder.job_dir(job_id) / "input").exists()
    run_until_recovered(Worker(store, store.folder, FinishesAtOnce(), keep_input=False))
    assert not (store.folder.job_dir(job_id) / "input").exists()


def test_places_are_reserved_before_bodies_arrive() -> None:
    queue = JobQueue(limit=2)
    queue.reserve()
    queue.reserve()
    with pytest.raises(QueueFull) as full:
        queue.reserve()
    assert full.value.facts == {"queued": 2, "max_queue": 2}
    queue.release()
    queue.submit("a")
    queue.reserve()
    queue.submit("b")
    assert queue.position("a") == 0 and queue.position("b") == 1
    assert queue.take() == "a" and queue.position("b") == 0


def test_times_are_estimated_after_the_first_job(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    job_id = submitted(store, worker)
    assert worker.eta_s(store.get(job_id)) is None
    worker.estimates.learn("default", 30.0, 16)
    assert worker.eta_s(store.get(job_id)) == 30.0


def test_jobs_with_other_tries_tell_each_others_times(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    many = JobOptions(mode="default", tries=8)
    for tries in (8, 1):  # 5 s each shape, 25 s for the rest
        worker.estimates.learn("default", 25.0 + 5.0 * tries, 16, tries, 5.0 * tries)
    assert worker.estimates.typical_s("default", 16) == pytest.approx(30.0)
    of_many, of_one = accept(store, options=many).job_id, accept(store).job_id
    for job_id in (of_many, of_one):
        worker.queue.reserve()
        worker.queue.submit(job_id)
    assert worker.eta_s(store.get(of_many)) == pytest.approx(65.0)
    assert worker.eta_s(store.get(of_one)) == pytest.approx(95.0)
    store.start(of_many)
    store.report(of_many, Progress("shape", 1, 10, 0.1))
    assert worker.estimates.remaining_s(store.get(of_many)) == pytest.approx(0.9 * 65.0)


def test_an_attempt_shorter_than_the_shape_of_an_earlier_one_is_learned(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    worker.estimates.learn("default", 3.0, 16, 1, 5.0)
    assert worker.estimates.typical_s("default", 16, 2) == pytest.approx(6.0)


def test_jobs_with_other_frames_tell_each_others_times(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    for frames in (16, 121, 31):  # 5 s for the shape, 2 s for each frame
        worker.estimates.learn("default", 5.0 + 2.0 * frames, frames, shape_s=5.0)
    assert worker.estimates.typical_s("default", 31) == pytest.approx(67.0)
    assert worker.estimates.frame_s("default") == pytest.approx(2.0)
    long = accept(store, options=JobOptions(mode="default", max_frames=121), input=None)
    clip = accept(store, input=replace(FACTS, used_frames=46))
    for job in (long, clip):
        worker.queue.reserve()
        worker.queue.submit(job.job_id)
    assert worker.eta_s(long) == pytest.approx(247.0)  # its clip is not known: as many as it asks
    assert worker.eta_s(clip) == pytest.approx(247.0 + 97.0)


class TwoAtOnce(WaitsForPermission):
    """Runs two jobs side by side."""

    capacity = 2


@pytest.fixture
def two_slots(store: JobStore) -> Iterator[tuple[Worker, TwoAtOnce]]:
    executor = TwoAtOnce()
    worker = Worker(store, store.folder, executor)
    worker.start()
    yield worker, executor
    executor.permission.set()
    worker.stop(grace_s=1.0)


def _worker_threads() -> int:
    return sum(thread.name.startswith("worker") for thread in threading.enumerate())


def test_two_slots_run_two_jobs_and_the_third_waits(
    store: JobStore, two_slots: tuple[Worker, TwoAtOnce]
) -> None:
    worker, executor = two_slots
    jobs = [submitted(store, worker) for _ in range(3)]
    wait_until(lambda: len(executor.running) == 2)
    assert [status(store, job_id) for job_id in jobs] == [
        JobStatus.RUNNING, JobStatus.RUNNING, JobStatus.QUEUED,
    ]  # fmt: skip
    assert worker.is_alive and _worker_threads() == 1  # one thread drives both
    executor.permission.set()
    wait_until(lambda: all(status(store, job_id) is JobStatus.FINISHED for job_id in jobs))


def test_a_cancel_ends_only_its_own_job(
    store: JobStore, two_slots: tuple[Worker, TwoAtOnce]
) -> None:
    worker, executor = two_slots
    first, second, third = (submitted(store, worker) for _ in range(3))
    wait_until(lambda: len(executor.running) == 2)
    worker.cancel(second)
    wait_until(lambda: status(store, second) is JobStatus.CANCELLED)
    wait_until(lambda: status(store, third) is JobStatus.RUNNING)
    worker.delete(third)
    assert status(store, first) is JobStatus.RUNNING
    executor.permission.set()
    wait_until(lambda: status(store, first) is JobStatus.FINISHED)
    with pytest.raises(JobNotFound):
        store.get(third)


def test_a_bug_at_the_end_of_one_job_does_not_end_the_job_beside_it(store: JobStore) -> None:
    class EndsWrongly(TwoAtOnce):
        def attempt(self, task: Task) -> Events:
            if task.job_id == first:
                yield cast(Event, "no event at all")
            yield from super().attempt(task)

    executor = EndsWrongly()
    worker = Worker(store, store.folder, executor)
    first, second = submitted(store, worker), submitted(store, worker)
    assert worker.run_once(0) and worker.run_once(0)
    error = store.get(first).error
    assert error is not None and error["code"] == "internal_error"
    assert first in executor.cancelled and status(store, second) is JobStatus.RUNNING
    executor.permission.set()
    worker.run_once(0)
    assert status(store, second) is JobStatus.FINISHED


def test_a_stop_requeues_the_attempts_of_both_slots(
    store: JobStore, two_slots: tuple[Worker, TwoAtOnce]
) -> None:
    worker, executor = two_slots
    jobs = [submitted(store, worker) for _ in range(2)]
    wait_until(lambda: len(executor.running) == 2)
    worker.stop(grace_s=0.1)
    assert [store.get(job_id).attempts for job_id in jobs] == [0, 0]
    assert not worker.is_alive and _worker_threads() == 0


def test_an_idle_slot_does_not_end_the_other_ones_job_at_a_stop(
    store: JobStore, two_slots: tuple[Worker, TwoAtOnce]
) -> None:
    worker, executor = two_slots
    job_id = submitted(store, worker)
    wait_until(lambda: len(executor.running) == 1)
    threading.Timer(1.5, executor.permission.set).start()
    worker.stop(grace_s=5.0)
    assert status(store, job_id) is JobStatus.FINISHED


def test_a_job_cancelled_while_its_loss_is_written_is_not_tried_again(store: JobStore) -> None:
    class IsCancelledMeanwhile(LosesWorkers):
        def attempt(self, task: Task) -> Events:
            store.listeners.append(cancel_once)
            yield from super().attempt(task)

    def cancel_once(job: Job) -> None:
        if job.status is JobStatus.QUEUED:
            store.listeners.remove(cancel_once)
            worker.cancel(job.job_id)

    worker = Worker(store, store.folder, IsCancelledMeanwhile(1))
    job_id = submitted(store, worker)
    assert worker.run_once(0) and not worker.run_once(0)
    assert status(store, job_id) is JobStatus.CANCELLED


class WaitsToBeWoken(WaitsForPermission):
    """Would sleep forever without a wake-up."""

    def poll(self, timeout_s: float) -> list[tuple[Task, Event]]:
        """Times out only if the timeout is 0."""
        return FinishesAtOnce.poll(self, 30.0 if timeout_s else 0.0)


def test_a_new_job_a_cancel_and_a_stop_each_wake_the_worker(store: JobStore) -> None:
    executor = WaitsToBeWoken()
    worker = Worker(store, store.folder, executor)
    worker.start()
    assert worker.recovered.wait(5)
    first = submitted(store, worker)
    assert executor.started.wait(5)
    worker.cancel(first)
    wait_until(lambda: status(store, first) is JobStatus.CANCELLED, 5.0)
    executor.started.clear()
    submitted(store, worker)
    assert executor.started.wait(5)
    worker.stop(grace_s=0.1)
    assert not worker.is_alive


def test_the_executor_gets_the_next_job_to_prefetch(
    store: JobStore, running: tuple[Worker, WaitsForPermission]
) -> None:
    worker, executor = running
    first, second, third = (submitted(store, worker) for _ in range(3))
    wait_until(lambda: executor.prefetched == [second])
    worker.cancel(second)
    wait_until(lambda: executor.prefetched == [second, third])
    worker.cancel(first)
    wait_until(lambda: status(store, third) is JobStatus.RUNNING)
    assert executor.prefetched == [second, third]


def test_of_more_jobs_than_slots_the_one_that_takes_the_slot_counts(store: JobStore) -> None:
    worker = Worker(store, store.folder, FinishesAtOnce())
    worker.estimates.learn("default", 30.0, 16)
    written, made, waiting = (submitted(store, worker) for _ in range(3))
    for job_id, fraction in ((written, 0.9), (made, 0.1)):
        store.start(job_id)
        store.report(job_id, Progress("motion", 1, 1, fraction))
    jobs = [store.get(job_id) for job_id in (written, made)]
    in_s = worker.estimates.queue_s(jobs, [store.get(waiting)], 1)
    assert in_s == pytest.approx(0.9 * 30.0 + 30.0, abs=1.0)


def test_two_slots_halve_the_time_in_the_queue(store: JobStore) -> None:
    worker = Worker(store, store.folder, TwoAtOnce())
    worker.estimates.learn("default", 30.0, 16)
    jobs = [submitted(store, worker) for _ in range(4)]
    assert [worker.eta_s(store.get(job_id)) for job_id in jobs] == [30.0, 30.0, 60.0, 60.0]


def _conforms(executor: FinishesAtOnce) -> Executor:
    """For mypy: the inline executors are executors."""
    return executor
