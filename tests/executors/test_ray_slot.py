"""When the server may give an actor a task: only on what it told since the last loss."""

from __future__ import annotations

import time
from typing import Any

from executors.ray_slot import Seat

IDLE: dict[str, Any] = {"key": None, "is_ready": True}


def idle_seat() -> Seat:
    seat = Seat(0, None)
    seat.hear(time.monotonic(), IDLE)
    assert seat.is_free
    return seat


def test_an_actor_beside_a_lost_one_must_answer_before_it_gets_a_task() -> None:
    seat = idle_seat()
    asked_before = time.monotonic()
    seat.doubt()
    assert seat.answers and not seat.is_free
    seat.hear(asked_before, IDLE)
    assert not seat.is_free
    seat.hear(time.monotonic(), IDLE)
    assert seat.is_free


def test_a_doubted_actor_is_asked_soon_and_its_attempt_goes_on() -> None:
    seat = idle_seat()
    seat.take(("job", 1))
    seat.doubt()
    assert seat.is_due(time.monotonic() + 0.6)
    seat.hear(time.monotonic(), {**IDLE, "key": ("job", 1), "progress": {"step": 3}})
    assert seat.news() == ({"step": 3}, None)
    assert seat.answers and not seat.is_free


def test_an_actor_that_still_runs_a_given_up_attempt_gets_no_task() -> None:
    seat = idle_seat()
    seat.take(("job", 1))
    seat.release(lost=True)
    seat.hear(time.monotonic(), {**IDLE, "key": ("job", 1)})
    assert seat.stray == ("job", 1) and not seat.is_free
    seat.hear(time.monotonic(), IDLE)
    assert seat.is_free
