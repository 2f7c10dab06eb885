"""Acceptance of a job while the server stops: the reply says what was done."""

from __future__ import annotations

import asyncio
from pathlib import Path

from api.admission import Admission, admission
from api.app_state import AppState
from job.state import Job
from main import create_app
from tests.inline_executors import FinishesAtOnce
from tests.job_factory import FACTS, OPTIONS
from tests.servers import quick_settings


def test_a_job_that_is_being_stored_is_accepted_although_the_server_stops(tmp_path: Path) -> None:
    """A request is cancelled when the server does not wait for it any longer."""
    app = create_app(quick_settings(tmp_path / "jobs"), FinishesAtOnce())
    state: AppState = app.state.app_state
    state.open_store()
    begun: list[Admission] = []

    async def accept() -> Job:
        async with admission(state, "127.0.0.1", 0, new=True) as admitted:
            begun.append(admitted)
            return await admitted.commit(OPTIONS, FACTS, idempotency=None)

    async def stop_while_storing() -> Job:
        request = asyncio.create_task(accept())
        while not (request.done() or (begun and begun[0].committing)):
            await asyncio.sleep(0)
        request.cancel()
        return await request

    try:
        job = asyncio.run(stop_while_storing())
        assert state.store.get(job.job_id) == job
    finally:
        state.store.close()
