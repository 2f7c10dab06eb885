"""Idempotency-Key: a request that is sent again because its reply was lost makes no second job.

The key and a hash of the request are part of the job itself, so they are stored by the same commit
and kept as long as the job. Only hashes are stored. After a failed request its key is free again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

from api.app_state import AppState
from errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidParameter,
    JobExpired,
    JobNotFound,
)
from job.state import Job

HEADER = "Idempotency-Key"
RECOVERY_S = 30.0
"""How long a request waits for the recovery at the start, which may find the job of its key."""
_KEY = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True)
class Claim:
    """One request's key. `job` is what an earlier request with this key made, if it still exists.

    Without a key both are None and nothing is checked or stored.
    """

    key: str | None = None
    job: Job | None = None

    def mark(self, *request: Any) -> dict[str, str] | None:
        """What the job must store. Raises IdempotencyKeyReused if the key had another `request`."""
        if self.key is None:
            return None
        written = json.dumps(request, sort_keys=True, default=str)
        found = hashlib.sha256(written.encode(errors="backslashreplace")).hexdigest()
        if self.job is not None and (self.job.idempotency or {}).get("hash") != found:
            raise IdempotencyKeyReused("This key was used for a different request.")
        return {"key": self.key, "hash": found}


@asynccontextmanager
async def claimed(state: AppState, headers: Headers) -> AsyncIterator[Claim]:
    """Hold the request's key until it has been answered. Raises IdempotencyInProgress."""
    given = headers.get(HEADER)
    if given is None:
        yield Claim()
        return
    if not _KEY.fullmatch(given):
        raise InvalidParameter(f"{HEADER} must be 1 to 255 visible ASCII characters.", field=HEADER)
    key = hashlib.sha256(given.encode()).hexdigest()
    if key in state.keys_in_progress:
        raise IdempotencyInProgress(
            "The first request with this key has not been answered yet.", retry_after=2
        )
    state.keys_in_progress.add(key)
    try:
        await _recovered(state)
        yield Claim(key, await _made_before(state, key))
    finally:
        state.keys_in_progress.discard(key)


async def _recovered(state: AppState) -> None:
    try:
        await asyncio.wait_for(state.recovered.wait(), RECOVERY_S)
    except asyncio.TimeoutError:
        raise IdempotencyInProgress("The server is still starting.", retry_after=5) from None


async def _made_before(state: AppState, key: str) -> Job | None:
    job_id = state.store.find_by_key(key)
    try:
        return await state.find(job_id) if job_id is not None else None
    except (JobNotFound, JobExpired):
        return None
