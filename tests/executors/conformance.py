"""The one suite that every executor passes: what it owes the worker, whatever runs the job.

Subclass it and give `executor(pipeline)`: an executor whose jobs run in that pipeline of
tests/pipelines.py. The clip is a real video; the child decodes it as it would any other.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from errors import Cancelled
from executors.base import Executor, run_to_end
from job.task import JobFailed, Progress, Result, Task, WorkerLost


class ExecutorConformance:
    """Inherit, give `executor`, and pytest runs every promise against it."""

    def executor(self, pipeline: str, *, job_timeout_s: float = 60.0) -> Executor:
        """A started executor; the `made` fixture closes it."""
        raise NotImplementedError

    @pytest.fixture
    def task(self, tmp_path: Path, clip_16: Path) -> Task:
        """A job folder as the API leaves it."""
        folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
        folder.mkdir()
        (folder / "input").write_bytes(clip_16.read_bytes())
        return Task(folder.name, 1, folder, "mov", "default", 44, max_frames=16)

    def run(
        self, executor: Executor, task: Task, cancelled: threading.Event | None = None
    ) -> tuple[Result, list[Progress]]:
        """Run the task and close the executor, whatever happens."""
        seen: list[Progress] = []
        try:
            return run_to_end(executor, task, seen.append, cancelled or threading.Event()), seen
        finally:
            executor.close()

    def test_a_finished_task_leaves_its_files_in_the_workspace(self, task: Task) -> None:
        result, seen = self.run(self.executor("Bends"), task)
        names = {file.name for file in result.files}
        assert {"mesh_000.glb", "mesh_015.glb", "animated_mesh.glb", "meshes.zip"} <= names
        assert {"source.mp4", "preview.mp4", "poster.webp", "anchor.glb"} <= names
        for file in result.files:
            assert (task.workspace / file.name).stat().st_size == file.bytes
        assert result.mesh["timesteps"] == 16
        assert {"extracting", "shape", "motion", "exporting", "rendering"} <= set(result.timings)
        assert result.warnings == ({"code": "tests", "message": "This is a box."},)
        fractions = [progress.fraction for progress in seen]
        assert fractions == sorted(fractions) and fractions[-1] <= 1.0
        assert seen[-1].has_anchor

    def test_one_executor_runs_many_tasks(self, task: Task) -> None:
        executor = self.executor("Bends")
        try:
            for attempt in (1, 2):
                again = Task.from_dict({**task.to_dict(), "attempt": attempt})
                result = run_to_end(executor, again, lambda _: None, threading.Event())
                assert result.mesh["timesteps"] == 16
        finally:
            executor.close()

    @pytest.mark.parametrize(
        ("pipeline", "code"),
        [
            ("FindsNothing", "no_subject_found"),
            ("RunsOutOfGpuMemory", "gpu_out_of_memory"),
            ("HasABug", "internal_error"),
            ("CannotLoad", "weights_unavailable"),
        ],
    )
    def test_a_failure_keeps_its_name_and_no_foreign_words(
        self, task: Task, pipeline: str, code: str
    ) -> None:
        with pytest.raises(JobFailed) as failed:
            self.run(self.executor(pipeline), task)
        assert failed.value.error.code == code
        assert "secret" not in failed.value.error.message

    @pytest.mark.parametrize(
        "pipeline", ["Exits", "IsKilled", "Segfaults", "LosesGpu", "BreaksProtocol"]
    )
    def test_a_process_that_goes_away_is_a_lost_worker(self, task: Task, pipeline: str) -> None:
        with pytest.raises(WorkerLost):
            self.run(self.executor(pipeline), task)

    def test_after_a_loss_the_next_attempt_runs(self, task: Task) -> None:
        executor = self.executor("IsKilledOnce")
        try:
            with pytest.raises(WorkerLost):
                run_to_end(executor, task, lambda _: None, threading.Event())
            again = Task.from_dict({**task.to_dict(), "attempt": 2})
            assert run_to_end(executor, again, lambda _: None, threading.Event()).files
        finally:
            executor.close()

    def test_who_waits_is_woken_by_a_call(self) -> None:
        executor = self.executor("Bends")
        try:
            executor.wake()
            executor.wait(600.0)  # longer than a test may take
            called = threading.Event()

            def call() -> None:
                called.set()
                executor.wake()

            threading.Timer(0.2, call).start()
            while not called.is_set():  # a child that begins may say something, too
                executor.wait(600.0)
        finally:
            executor.close()

    def test_what_a_pipeline_prints_is_no_protocol(self, task: Task) -> None:
        result, _ = self.run(self.executor("Prints"), task)
        assert result.mesh["timesteps"] == 16

    def test_a_cancel_is_answered_at_the_next_step(self, task: Task) -> None:
        executor, cancelled = self.executor("SleepsLong"), threading.Event()

        def cancel_once_it_moves(progress: Progress) -> None:
            if progress.stage == "motion":
                cancelled.set()

        try:
            with pytest.raises(Cancelled):
                run_to_end(executor, task, cancel_once_it_moves, cancelled)
            assert executor.is_ready  # a killed process would have to load again
        finally:
            executor.close()

    def test_a_cancel_without_an_answer_kills(self, task: Task) -> None:
        cancelled = threading.Event()
        executor = self.executor("Hangs")
        try:
            with pytest.raises(Cancelled):
                run_to_end(
                    executor,
                    task,
                    lambda p: cancelled.set() if p.stage == "motion" else None,
                    cancelled,
                )
            assert not executor.is_ready
        finally:
            executor.close()

    def test_a_task_over_its_time_fails(self, task: Task) -> None:
        with pytest.raises(JobFailed) as failed:
            self.run(self.executor("SleepsLong", job_timeout_s=2.0), task)
        assert failed.value.error.code == "timed_out"

    def test_close_ends_a_run_from_another_thread(self, task: Task) -> None:
        executor = self.executor("SleepsLong")
        timer = threading.Event()

        def close_once_it_moves(progress: Progress) -> None:
            if progress.stage == "motion" and not timer.is_set():
                timer.set()
                threading.Thread(target=executor.close).start()

        with pytest.raises(WorkerLost):
            run_to_end(executor, task, close_once_it_moves, threading.Event())
        executor.close()
