"""The tests that every executor must pass: what the worker needs from an executor.

Subclass it and define `executor(options)`. The clip is a real video.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from executors.base import Executor, ExecutorOptions, run_to_end
from job.task import (
    EARLY_FILES,
    ChildConfig,
    Failed,
    Lost,
    Outcome,
    Progress,
    Result,
    Stopped,
    Task,
)


def options(
    pipeline: str, *, job_timeout_s: float = 60.0, cancel_grace_s: float = 10.0
) -> ExecutorOptions:
    """A child with this pipeline of tests/pipelines.py."""
    config = ChildConfig(f"tests.pipelines:{pipeline}")
    return ExecutorOptions(config, job_timeout_s, cancel_grace_s=cancel_grace_s)


def assert_whole(outcome: Outcome, seen: list[Progress], task: Task) -> None:
    """A finished attempt of the pipeline Bends: files, facts and progress are all there."""
    assert isinstance(outcome, Result), outcome
    names = {file.name for file in outcome.files}
    assert {"mesh_000.glb", "mesh_015.glb", "animated_mesh.glb", "meshes.zip"} <= names
    assert {"source.mp4", "preview.mp4", "poster.webp", "anchor.glb"} <= names
    for file in outcome.files:
        assert (task.workspace / file.name).stat().st_size == file.bytes
    assert outcome.mesh["timesteps"] == 16
    assert {"extracting", "shape", "motion", "exporting", "rendering"} <= set(outcome.timings)
    assert outcome.warnings == ({"code": "tests", "message": "This is a box."},)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions) and fractions[-1] <= 1.0
    assert "anchor.glb" in seen[-1].ready


class ExecutorConformance:
    """Subclasses define `executor`; pytest runs every test with it."""

    def executor(self, options: ExecutorOptions) -> Executor:
        """A started executor; the tests close it."""
        raise NotImplementedError

    def run(
        self,
        options: ExecutorOptions,
        task: Task,
        once_it_moves: Callable[[Executor], object] = lambda _: None,
    ) -> tuple[Outcome, list[Progress]]:
        """How the task ended, and its progress; `once_it_moves` is called at the first motion."""
        seen: list[Progress] = []
        with closing(self.executor(options)) as executor:

            def note(progress: Progress) -> None:
                if progress.stage == "motion" and all(p.stage != "motion" for p in seen):
                    once_it_moves(executor)
                seen.append(progress)

            return run_to_end(executor, task, note), seen

    def test_a_finished_task_leaves_its_files_in_the_workspace(self, task: Task) -> None:
        outcome, seen = self.run(options("Bends"), task)
        assert_whole(outcome, seen, task)

    def test_the_subject_and_the_anchor_are_there_before_the_task_ends(self, task: Task) -> None:
        early: dict[str, bytes] = {}
        with closing(self.executor(options("FindsTheMiddle"))) as executor:

            def note(progress: Progress) -> None:
                for name in progress.ready:
                    early.setdefault(name, (task.workspace / name).read_bytes())
                if set(early) == set(EARLY_FILES):
                    executor.cancel(task.job_id)

            assert isinstance(run_to_end(executor, task, note), Stopped)
        assert early["subject.webp"][8:12] == b"WEBP" and early["masks.zip"][:2] == b"PK"
        assert len(early["anchor.glb"]) == int.from_bytes(early["anchor.glb"][8:12], "little")

    def test_one_executor_runs_many_tasks(self, task: Task) -> None:
        with closing(self.executor(options("Bends"))) as executor:
            for attempt in (1, 2):
                outcome = run_to_end(executor, replace(task, attempt=attempt))
                assert isinstance(outcome, Result) and outcome.mesh["timesteps"] == 16

    @pytest.mark.parametrize(
        ("pipeline", "code"),
        [
            ("FindsNothing", "no_subject_found"),
            ("RunsOutOfGpuMemory", "gpu_out_of_memory"),
            ("HasABug", "internal_error"),
            ("CannotLoad", "weights_unavailable"),
        ],
    )
    def test_a_failure_keeps_its_code_and_shows_no_other_text(
        self, task: Task, pipeline: str, code: str
    ) -> None:
        outcome, _ = self.run(options(pipeline), task)
        assert isinstance(outcome, Failed) and outcome.error.code == code
        assert "secret" not in outcome.error.message

    @pytest.mark.parametrize(
        ("pipeline", "crash"),
        [
            ("Exits", ""),
            ("IsKilled", ""),
            ("Segfaults", "SIGSEGV"),
            ("Aborts", "SIGABRT"),
            ("LosesGpu", ""),
            ("AbortsAtExit", ""),
            ("CrashesWhileLoading", ""),
            ("BreaksProtocol", ""),
        ],
    )
    def test_a_process_that_ends_loses_the_attempt(
        self, task: Task, pipeline: str, crash: str
    ) -> None:
        outcome, _ = self.run(options(pipeline), task)
        assert isinstance(outcome, Lost) and outcome.crash == crash

    def test_after_a_loss_the_next_attempt_runs(self, task: Task) -> None:
        with closing(self.executor(options("IsKilledOnce"))) as executor:
            assert isinstance(run_to_end(executor, task), Lost)
            assert isinstance(run_to_end(executor, replace(task, attempt=2)), Result)

    def test_wake_ends_a_poll(self) -> None:
        with closing(self.executor(options("Bends"))) as executor:
            executor.wake()
            executor.poll(600.0)  # longer than a test may take
            called = threading.Event()

            def call() -> None:
                called.set()
                executor.wake()

            threading.Timer(0.2, call).start()
            while not called.is_set():  # a starting child may send messages too
                executor.poll(600.0)

    def test_printed_text_is_not_read_as_messages(self, task: Task) -> None:
        outcome, _ = self.run(options("Prints"), task)
        assert isinstance(outcome, Result) and outcome.mesh["timesteps"] == 16

    def test_a_cancel_ends_the_task_at_the_next_step(self, task: Task) -> None:
        patient = options("SleepsLong", cancel_grace_s=600.0)  # longer than a test may take
        outcome, _ = self.run(patient, task, lambda executor: executor.cancel(task.job_id))
        assert isinstance(outcome, Stopped)

    def test_a_child_that_ignores_a_cancel_is_killed(self, task: Task) -> None:
        quick = options("Hangs", cancel_grace_s=1.0)
        outcome, _ = self.run(quick, task, lambda executor: executor.cancel(task.job_id))
        assert isinstance(outcome, Stopped)

    def test_a_cancel_of_another_job_changes_nothing(self, task: Task) -> None:
        with closing(self.executor(options("Bends"))) as executor:
            executor.cancel(task.job_id)  # not under way yet
            outcome = run_to_end(executor, task, lambda _: executor.cancel("another"))
            assert isinstance(outcome, Result)

    def test_a_task_over_its_time_fails(self, task: Task) -> None:
        outcome, _ = self.run(options("SleepsLong", job_timeout_s=2.0), task)
        assert isinstance(outcome, Failed) and outcome.error.code == "timed_out"

    def test_close_ends_a_run_from_another_thread(self, task: Task) -> None:
        outcome, _ = self.run(
            options("SleepsLong"),
            task,
            lambda executor: threading.Thread(target=executor.close).start(),
        )
        assert isinstance(outcome, Lost)
