"""Several children on one machine, without a GPU: `python -m benchmarks.local_children`.

Jobs that sleep stand in for jobs on a GPU: two cores are too few for four that compute. Prints a
Markdown table.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.folder import JobsFolder
from job.state import JobStatus
from job.task import ChildConfig
from job_store import JobStore
from pipeline import Gpu
from tests.job_factory import accept
from tests.video.clips import numbered
from tests.waiting import wait_until
from worker.loop import Worker

CHILDREN = 4
MIN_SPEEDUP = 3.5
MAX_CANCEL_S = 5.0
MAX_RECOVERY_S = 3.0
MAX_GAP_S = 0.5
SLEEPS = "tests.executors.card_pipelines:SleepsAndFindsNothing"
FINISHES = "tests.pipelines:SpecksSlowly"


class Machine:
    """A worker with so many children, all loaded, on a folder of its own."""

    def __init__(self, folder: Path, pipeline: str, children: int, clip: bytes) -> None:
        self.folder, self._clip = folder, clip
        gpus = tuple(Gpu(f"card {n}", 80.0, selector=str(n)) for n in range(children))
        options = ExecutorOptions(ChildConfig(pipeline), separate_files=True, gpus=gpus)
        self.executor = LocalExecutor(options)
        self.store = JobStore(JobsFolder(folder / "jobs"))
        self.store.open()
        self.worker = Worker(self.store, self.store.folder, self.executor, max_queue=100)
        self.worker.start()
        wait_until(lambda: all(s.state == "ready" for s in self.executor.slot_statuses), 300)

    def submit(self, count: int) -> list[str]:
        ids = [accept(self.store, self._clip).job_id for _ in range(count)]
        for job_id in ids:
            self.worker.queue.submit(job_id, reserved=False)
        return ids

    def wait(self, ids: list[str], *statuses: JobStatus) -> float:
        """Until all jobs have one of these; the time that it took in seconds."""
        began = time.monotonic()
        wait_until(lambda: all(self.store.get(job_id).status in statuses for job_id in ids), 500)
        return time.monotonic() - began

    def wait_until_moving(self, ids: list[str]) -> None:
        def stages() -> set[str]:
            found = [self.store.get(job_id).progress for job_id in ids]
            return {progress.stage if progress else "" for progress in found}

        wait_until(lambda: stages() == {"motion"}, 100)

    def gaps_s(self) -> list[float]:
        """Between the end of a job's pipeline and the beginning of the next one's, on each card."""
        gaps = []
        for path in self.folder.glob("*.stamps"):
            times = [[float(number) for number in line.split()] for line in open(path)]
            gaps += [after[0] - before[1] for before, after in zip(times, times[1:], strict=False)]
        return sorted(gaps)


@contextmanager
def machine(pipeline: str, children: int, clip: bytes) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="children-") as name:
        made = Machine(Path(name), pipeline, children, clip)
        try:
            yield made
        finally:
            made.worker.stop(1.0)
            made.store.close()


def main() -> int:
    """Print the table; 0 if every limit is met."""
    with tempfile.TemporaryDirectory() as name:
        clip = numbered(Path(name) / "clip.mp4", 16).read_bytes()
    one_s, _ = _seconds_a_job(SLEEPS, 1, 5, clip)
    four_s, gaps = _seconds_a_job(SLEEPS, CHILDREN, 20, clip)
    cancel_s, beside_s = _cancel(clip), _killed(clip)
    computes_s = [_seconds_a_job("silhouette", count, 4, clip)[0] for count in (1, 2)]
    rows = [
        (f"jobs that sleep 4 s: {CHILDREN} children against one", f"{one_s / four_s:.2f} x",
         f"{MIN_SPEEDUP} x", one_s / four_s >= MIN_SPEEDUP),
        ("- from the end of a job's pipeline to the beginning of the next, median (longest)",
         f"{gaps[len(gaps) // 2]:.2f} s ({gaps[-1]:.2f} s)", f"{MAX_GAP_S} s",
         gaps[len(gaps) // 2] <= MAX_GAP_S),
        (f"a cancel, the slowest of {CHILDREN}", f"{cancel_s:.1f} s", f"{MAX_CANCEL_S:.0f} s",
         cancel_s <= MAX_CANCEL_S),
        ("a killed child: from the kill to the finished job, minus the job's own time",
         f"{beside_s:.1f} s", f"{MAX_RECOVERY_S:.0f} s", beside_s <= MAX_RECOVERY_S),
    ]  # fmt: skip
    print("| what | measured | limit | met |\n|---|---|---|---|")
    for what, measured, limit, met in rows:
        print(f"| {what} | {measured} | {limit} | {'yes' if met else 'NO'} |")
    cores = os.cpu_count()
    print(
        f"| silhouette jobs, which compute: 2 children against one, on {cores} cores "
        f"| {computes_s[0] / computes_s[1]:.2f} x | | |"
    )
    return 0 if all(met for *_, met in rows) else 1


def _seconds_a_job(
    pipeline: str, children: int, jobs: int, clip: bytes
) -> tuple[float, list[float]]:
    """The time of all jobs by their number, and the gaps between them."""
    with machine(pipeline, children, clip) as running:
        took_s = running.wait(running.submit(jobs), JobStatus.FINISHED, JobStatus.ERROR)
        return took_s / jobs, running.gaps_s()


def _cancel(clip: bytes) -> float:
    with machine(SLEEPS, CHILDREN, clip) as running:
        ids = running.submit(CHILDREN)
        running.wait_until_moving(ids)
        for job_id in ids:
            running.worker.cancel(job_id)
        return running.wait(ids, JobStatus.CANCELLED)


def _killed(clip: bytes) -> float:
    """Seconds beside the job's own."""
    with machine(FINISHES, CHILDREN, clip) as running:
        (job_id,) = running.submit(1)
        running.wait_until_moving([job_id])
        child = next(slot.child for slot in running.executor.slots if slot.task is not None)
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        took_s = running.wait([job_id], JobStatus.FINISHED)
        job = running.store.get(job_id)
        assert job.result is not None and job.attempts == 2
        return took_s - sum(job.result.timings.values())


if __name__ == "__main__":
    raise SystemExit(main())
