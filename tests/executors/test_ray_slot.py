"""When an actor may get a task: only after it answered since the last loss."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from executors.ray_actor import ActorStatus
from executors.ray_slot import ActorSlot
from job.task import Progress, Task
from pipeline import Gpu
from tests.job_factory import OPTIONS

IDLE = ActorStatus(pid=1, is_ready=True)
TASK = Task("job", 1, Path("job"), "mov", OPTIONS)
BUSY = replace(IDLE, key=("job", 1))


def idle_slot() -> ActorSlot:
    slot = ActorSlot(0, None)
    slot.on_heartbeat(time.monotonic(), IDLE)
    assert slot.is_free
    return slot


def test_an_actor_beside_a_lost_one_must_answer_before_it_gets_a_task() -> None:
    slot = idle_slot()
    asked_before = time.monotonic()
    slot.mark_suspect()
    assert slot.answers and not slot.is_free
    slot.on_heartbeat(asked_before, IDLE)
    assert not slot.is_free
    slot.on_heartbeat(time.monotonic(), IDLE)
    assert slot.is_free


def test_a_suspect_actor_is_asked_soon_and_its_attempt_goes_on() -> None:
    slot = idle_slot()
    slot.take(TASK)
    slot.mark_suspect()
    assert slot.is_due(time.monotonic() + 0.6)
    third_step = Progress("motion", 3, 16, 0.3)
    status = replace(BUSY, progress=third_step)
    assert slot.on_heartbeat(time.monotonic(), status) == status
    assert slot.answers and not slot.is_free


def test_an_actor_that_still_runs_a_given_up_attempt_gets_no_task() -> None:
    slot = idle_slot()
    slot.take(TASK)
    slot.release(lost=True)
    slot.on_heartbeat(time.monotonic(), BUSY)
    assert slot.orphaned_attempt == ("job", 1) and not slot.is_free
    slot.on_heartbeat(time.monotonic(), IDLE)
    assert slot.is_free


def test_the_summary_shows_the_actors_gpu_and_whether_it_answers() -> None:
    slot, gpu = idle_slot(), Gpu("NVIDIA H100", 85.0)
    slot.on_heartbeat(time.monotonic(), replace(IDLE, gpu=gpu))
    summaries = [slot.summary]
    slot.take(TASK)
    summaries.append(slot.summary)
    slot.release(lost=True)
    summaries.append(slot.summary)
    assert [summary.state for summary in summaries] == ["ready", "busy", "lost"]
    assert [summary.pipeline.is_ready for summary in summaries] == [True, True, False]
    assert summaries[0].pipeline.gpu == gpu


def test_a_failed_question_is_no_sign_of_life() -> None:
    slot = idle_slot()
    slot.take(TASK)
    since = slot.alive_at
    slot.on_heartbeat(time.monotonic(), None)
    assert slot.alive_at == since and not slot.answers
    slot.on_heartbeat(time.monotonic(), BUSY)
    assert slot.alive_at > since and slot.answers
