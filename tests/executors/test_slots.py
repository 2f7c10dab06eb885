"""Several slots on one machine: one child each, and a failure of one costs the others nothing.

Cards are only names here (card_pipelines.py): no GPU is needed.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from errors import GpuError
from executors import local
from executors.base import (
    POLL_S,
    Executor,
    ExecutorOptions,
    PipelineStatus,
    SlotStatus,
    overall,
    run_to_end,
)
from executors.local import LocalExecutor
from job.task import ChildConfig, Failed, Lost, Outcome, Progress, Result, Stopped, Task
from pipeline import Gpu
from tests.api.bodies import frames_zip
from tests.executors.blocking_blender import BlockingBlender
from tests.executors.conformance import ExecutorConformance
from tests.job_factory import OPTIONS, with_options
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

MakeTask = Callable[..., Task]


class TestTwoSlots(ExecutorConformance):
    """The suite of every executor, as on a machine with two GPUs."""

    def executor(self, options: ExecutorOptions) -> Executor:
        executor = LocalExecutor(replace(options, gpus=(None, None), separate_files=True))
        executor.start()
        return executor


def not_started(pipeline: str, *cards: str, blender: str = "", **more: float) -> LocalExecutor:
    """A slot for each card, and export children."""
    config = ChildConfig(f"tests.executors.card_pipelines:{pipeline}", blender_path=blender)
    gpus = tuple(Gpu(f"from NVML: {card}", 80.0, selector=card) for card in cards)
    return LocalExecutor(ExecutorOptions(config, separate_files=True, gpus=gpus, **more))


@contextmanager
def slots(pipeline: str, *cards: str, blender: str = "", **more: float) -> Iterator[LocalExecutor]:
    with closing(not_started(pipeline, *cards, blender=blender, **more)) as executor:
        executor.start()
        yield executor


def states(executor: LocalExecutor) -> list[str]:
    return [slot.state for slot in executor.slot_statuses]


def poll_until(executor: LocalExecutor, happened: Callable[[], object]) -> None:
    """Poll, without tasks, until it is true."""

    def check() -> object:
        executor.poll(0.05)
        return happened()

    wait_until(check, 100.0)


def load_all(executor: LocalExecutor) -> None:
    poll_until(executor, lambda: set(states(executor)) == {"ready"})


def run_all(
    executor: LocalExecutor,
    tasks: Sequence[Task],
    note: Callable[[Task, Progress], None] = lambda *_: None,
) -> dict[str, Outcome]:
    """Submit each as soon as there is room; how each ended, by its job's id."""
    ended: dict[str, Outcome] = {}
    left = list(tasks)
    while len(ended) < len(tasks):
        if left and executor.has_room:
            executor.submit(left.pop(0))
        for task, event in executor.poll(POLL_S):
            if isinstance(event, Progress):
                note(task, event)
            else:
                ended[task.job_id] = event
    return ended


def ends(executor: LocalExecutor) -> dict[str, Outcome]:
    """Poll until a job ends; how, by its id."""
    while True:
        events = executor.poll(POLL_S)
        ended = {task.job_id: event for task, event in events if not isinstance(event, Progress)}
        if ended:
            return ended


def card_of(outcome: Outcome) -> str:
    """The card that a finished job ran on."""
    assert isinstance(outcome, Result), outcome
    return next(str(made["message"]) for made in outcome.warnings if made["code"] == "card")


def kill(executor: LocalExecutor, number: int) -> int:
    """The id of the slot's process, which has ended."""
    child = executor.slots[number].child
    assert child is not None
    os.kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not child.is_alive)
    return child.pid


def slot_of(executor: LocalExecutor, task: Task) -> int:
    """The number of the slot that runs the task."""
    return next(n for n, slot in enumerate(executor.slots) if slot.task == task)


@pytest.fixture
def make_task(tmp_path: Path) -> MakeTask:
    def make(name: str, seed: int = 0) -> Task:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "input").write_bytes(frames_zip())
        return with_options(Task(name, 1, folder, "zip", OPTIONS), seed=seed)

    return make


def again(task: Task) -> Task:
    return replace(task, attempt=task.attempt + 1)


READY = PipelineStatus(is_ready=True, gpu=Gpu("a", 80.0))
UNLOADED = PipelineStatus(is_unloaded=True, gpu=Gpu("b", 24.0))
DOWNLOADS = PipelineStatus(loading={"done_bytes": 1, "total_bytes": 2})
BROKEN = PipelineStatus(broken=GpuError("The driver has lost this card."))


@pytest.mark.parametrize(
    ("pipelines", "expected"),
    [
        ([READY, BROKEN, DOWNLOADS], READY),
        ([BROKEN, DOWNLOADS], DOWNLOADS),
        ([UNLOADED, BROKEN], UNLOADED),
        ([BROKEN, BROKEN], BROKEN),
        ([UNLOADED, PipelineStatus()], PipelineStatus(gpu=UNLOADED.gpu)),
        ([READY, UNLOADED], replace(READY, gpu=UNLOADED.gpu)),
        ([], PipelineStatus()),
    ],
)
def test_one_slot_that_is_ready_is_enough_and_only_all_together_are_broken(
    pipelines: list[PipelineStatus], expected: PipelineStatus
) -> None:
    assert overall([SlotStatus(n, pipeline) for n, pipeline in enumerate(pipelines)]) == expected


# --- side by side


def test_each_slot_sees_only_its_card_and_reports_it(
    make_task: MakeTask, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = [make_task("a"), make_task("b")]
    with caplog.at_level(logging.INFO), slots("WaitsForFile", "4", "2") as executor:
        assert [slot.pipeline.gpu for slot in executor.slot_statuses] == [
            Gpu("from NVML: 4", 80.0, selector="4"),
            Gpu("from NVML: 2", 80.0, selector="2"),
        ]
        load_all(executor)
        found = [slot.pipeline.gpu for slot in executor.slot_statuses]
        assert found == [Gpu("card 4", 14.0), Gpu("card 2", 12.0)]
        assert executor.status.gpu == Gpu("card 2", 12.0)  # every mode must fit it

        def both_run() -> None:
            if all(slot.task is not None for slot in executor.slots):
                (tmp_path / "go-on").touch()

        ended = run_all(executor, tasks, lambda *_: both_run())
    assert {card_of(outcome) for outcome in ended.values()} == {"4", "2"}
    for line in (
        "slot 1: child", "from NVML: 2 with 80.0 GB, CUDA_VISIBLE_DEVICES=2",
        "is ready on card 2 with 12.0 GB", "attempt 1: slot 0, child", "attempt 1: export 0, child",
    ):  # fmt: skip
        assert line in caplog.text


def test_children_load_one_after_another(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with slots("LogsItsLoading", f"0:{log}", f"1:{log}", f"2:{log}") as executor:
        load_all(executor)
    assert log.read_text().split() == ["begins", "ends"] * 3


def test_a_child_that_hangs_while_it_loads_does_not_stop_the_others(make_task: MakeTask) -> None:
    with closing(not_started("HangsOnCardZero", "0", "1", idle_unload_s=1.0)) as executor:
        executor.slots[0].options = replace(executor.options, job_timeout_s=2.0)
        executor.start()
        poll_until(executor, lambda: executor.slots[1].was_idle)
        assert states(executor) == ["loading", "unloaded"]
        assert card_of(run_to_end(executor, make_task("a"))) == "1"


def test_a_job_ends_if_one_slot_hangs_and_the_other_is_broken(make_task: MakeTask) -> None:
    """It is not handed on for ever to the one that fails at once."""
    with closing(not_started("HangsOrBreaks", "0", "1")) as executor:
        executor.slots[0].options = replace(executor.options, job_timeout_s=2.0)
        executor.start()
        poll_until(executor, lambda: states(executor) == ["loading", "broken"])
        outcome = run_to_end(executor, make_task("a"))
        assert isinstance(outcome, Failed) and outcome.error.code == "timed_out"


def test_the_next_jobs_frames_are_read_where_a_slot_is_free_first(
    make_task: MakeTask, tmp_path: Path
) -> None:
    behind, ahead, following = make_task("behind", 0), make_task("ahead", 1), make_task("next")
    with slots("WaitsForFile", "0", "1") as executor:
        load_all(executor)
        moving: set[str] = set()

        def prefetch_once(task: Task, progress: Progress) -> None:
            if progress.stage == "motion":
                moving.add(task.job_id)
            if len(moving) == 2 and not (tmp_path / "go-on").exists():
                executor.prefetch(following)
                assert [slot.prefetched for slot in executor.slots] == ["", "next"]
                assert slot_of(executor, ahead) == 1
                (tmp_path / "go-on").touch()

        run_all(executor, [behind, ahead], prefetch_once)
        assert states(executor) == ["ready", "ready"]
        assert card_of(run_to_end(executor, following)) == "1"


# --- a slot that fails


def test_a_killed_childs_job_runs_on_another_slot_and_its_own_loads_again(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task("a")
    with slots("WaitsForFile", "0", "1") as executor:
        load_all(executor)
        pids: list[int] = []

        def kill_once(progress: Progress) -> None:
            if progress.stage == "motion" and not pids:
                pids.append(kill(executor, slot_of(executor, task)))
                (tmp_path / "go-on").touch()

        assert isinstance(run_to_end(executor, task, kill_once), Lost)
        assert executor.has_room
        assert card_of(run_to_end(executor, again(task))) == "1"
        load_all(executor)
        child = executor.slots[0].child
        assert child is not None and child.pid != pids[0]


def test_a_slot_that_cannot_load_again_gets_no_job_until_it_can(
    make_task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "RETRY_S", 0.2)
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.touch()
    bad.touch()
    with slots("NeedsItsFile", str(bad), str(good)) as executor:
        load_all(executor)
        bad.unlink()
        kill(executor, 0)
        poll_until(executor, lambda: states(executor)[0] == "broken")
        assert executor.status.is_ready and executor.status.broken is None

        def only_the_good_one_runs(_: Task, __: Progress) -> None:
            assert executor.slots[0].task is None

        tasks = [make_task(str(number)) for number in range(3)]
        ended = run_all(executor, tasks, only_the_good_one_runs)
        assert {card_of(outcome) for outcome in ended.values()} == {str(good)}
        bad.touch()
        load_all(executor)


def test_a_card_that_is_broken_from_the_start_costs_no_attempt(
    make_task: MakeTask, tmp_path: Path
) -> None:
    good = tmp_path / "good"
    good.touch()
    task = make_task("a")
    with slots("NeedsItsFile", str(tmp_path / "bad"), str(good)) as executor:
        assert card_of(run_to_end(executor, task)) == str(good)
        assert states(executor)[1] == "ready" and executor.slots[0].status.broken
        assert executor.status.broken is None


def test_it_is_broken_if_all_slots_are_and_each_job_tries_again(
    make_task: MakeTask, tmp_path: Path
) -> None:
    cards = [tmp_path / "first", tmp_path / "second"]
    with slots("NeedsItsFile", *map(str, cards)) as executor:
        outcome = run_to_end(executor, make_task("a"))
        assert isinstance(outcome, Failed) and outcome.error.code == "gpu_error"
        poll_until(executor, lambda: executor.status.broken)
        assert states(executor) == ["broken", "broken"] and executor.has_room
        for card in cards:
            card.touch()
        assert isinstance(run_to_end(executor, make_task("b")), Result)
        load_all(executor)


def test_if_all_children_are_lost_the_next_jobs_start_them(
    make_task: MakeTask, tmp_path: Path
) -> None:
    (tmp_path / "go-on").touch()
    with slots("WaitsForFile", "0", "1") as executor:
        load_all(executor)
        for number in (0, 1):  # idle: nothing that they sent is unread, so one poll sees both ends
            kill(executor, number)
        executor.poll(POLL_S)
        assert states(executor) == ["lost", "lost"] and executor.has_room
        ended = run_all(executor, [make_task("a"), make_task("b")])
        assert all(isinstance(outcome, Result) for outcome in ended.values())
        load_all(executor)


def test_a_slot_that_loses_every_job_waits_longer_each_time() -> None:
    delays = [local._retry_delay_s(failures) for failures in (1, 2, 3, 4, 40)]
    assert delays == [0.0, 30.0, 60.0, 120.0, 900.0]


def test_a_slot_that_failed_gets_a_job_only_if_no_other_is_free(
    make_task: MakeTask, tmp_path: Path
) -> None:
    task = make_task("a")
    (tmp_path / "go-on").touch()
    with slots("StopsOnCardZero", "0", "1") as executor:
        load_all(executor)
        assert isinstance(run_to_end(executor, task), Lost)
        assert card_of(run_to_end(executor, again(task))) == "1"
        load_all(executor)
        assert card_of(run_to_end(executor, make_task("b"))) == "1"


# --- cancel, idle, export


def test_a_cancel_ends_one_job_and_not_the_other(make_task: MakeTask, tmp_path: Path) -> None:
    doomed, other, waiting = make_task("doomed"), make_task("other"), make_task("waiting")
    with slots("WaitsForFile", "0", "1") as executor:
        load_all(executor)
        executor.submit(doomed)
        executor.submit(other)
        poll_until(executor, lambda: all(slot.task for slot in executor.slots))
        assert not executor.has_room
        executor.submit(waiting)
        executor.cancel(waiting.job_id)
        assert ends(executor) == {"waiting": Stopped()}
        executor.cancel(doomed.job_id)
        assert ends(executor) == {"doomed": Stopped()}
        (tmp_path / "go-on").touch()
        assert card_of(ends(executor)["other"]) == "1"


def test_a_slot_that_failed_once_and_was_idle_since_is_not_lost() -> None:
    with slots("NamesItsCard", "0", "1", idle_unload_s=1.0) as executor:
        poll_until(executor, lambda: executor.status.is_ready)
        number = next(n for n, slot in enumerate(executor.slots) if slot.status.is_ready)
        kill(executor, number)
        poll_until(executor, lambda: executor.slots[number].failures)
        poll_until(executor, lambda: all(slot.was_idle for slot in executor.slots))
        assert states(executor) == ["unloaded", "unloaded"]


def test_idle_slots_are_unloaded_and_a_job_loads_only_one(make_task: MakeTask) -> None:
    with slots("NamesItsCard", "0", "1", idle_unload_s=1.0) as executor:
        poll_until(executor, lambda: states(executor) == ["unloaded", "unloaded"])
        assert executor.status.is_unloaded

        def one_loads(_: Progress) -> None:
            assert executor.slots[1].child is None

        assert card_of(run_to_end(executor, make_task("a"), one_loads)) == "0"


def test_computed_meshes_that_wait_for_export_stop_new_jobs_once_each_slot_has_some(
    make_task: MakeTask, tmp_path: Path
) -> None:
    blender = BlockingBlender(tmp_path)
    tasks = [with_options(make_task(str(number)), blender_export=True) for number in range(7)]
    with slots("NamesItsCard", "0", "1", blender=blender.program) as executor:
        load_all(executor)
        left = list(tasks)

        def submit_while_there_is_room() -> None:
            if left and executor.has_room:
                executor.submit(left.pop(0))

        def computed() -> list[bool]:
            submit_while_there_is_room()
            return [task.checkpoint.exists() for task in tasks]

        # two are written, two wait: no GPU works for an export that is far behind
        poll_until(executor, lambda: sum(computed()) >= 4 and not executor.has_room)
        assert left and blender.count() <= 2
        blender.release()
        poll_until(executor, lambda: all(computed()) and executor.has_room)
