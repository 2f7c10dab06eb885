"""CPU of one GET /jobs/{id}, compared with a minimal FastAPI route: `python -m benchmarks.poll`.

Both apps are called in this process as ASGI functions, without a socket. The best of several rounds
counts, because other programs on the machine can only add time.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from job.folder import JobsFolder
from job.task import Progress
from main import create_app
from settings import Settings
from tests.inline_executors import FinishesAtOnce
from tests.job_factory import accept, result

ROUNDS, CALLS = 7, 2000


def minimal_app() -> FastAPI:
    """One route that answers with two keys."""
    app = FastAPI()

    @app.get("/jobs/{job_id}")
    async def get_job(job_id: str) -> dict[str, str]:
        return {"job_id": job_id, "status": "queued"}

    return app


async def cpu_us(app: Any, path: str) -> float:
    """Microseconds of CPU per call."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": [(b"host", b"localhost"), (b"accept", b"*/*")],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200

    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CALLS):
            await app(dict(scope), receive, send)
        best = min(best, (time.process_time() - began) / CALLS * 1e6)
    return best


async def main(folder: Path) -> None:
    """Print a row for each status."""
    logging.disable(logging.CRITICAL)
    settings = Settings(jobs_dir=folder, host="127.0.0.1", pipeline="silhouette", min_free_gb=0.0)
    app, minimal = create_app(settings, FinishesAtOnce()), minimal_app()
    state = app.state.app_state
    assert isinstance(state.folder, JobsFolder)
    state.open_store()
    job_id = accept(state.store).job_id
    state.worker.queue.submit(job_id, reserved=False)
    print("| status | GET /jobs/{id}, us | minimal route, us | ratio |\n|---|---|---|---|")
    for status in ("queued", "running", "finished"):
        if status == "running":
            state.store.start(job_id)
            state.store.report(job_id, Progress("motion", 3, 10, 0.4, "Tracking"))
        elif status == "finished":
            state.store.finish(job_id, result())
        ours, theirs = (
            await cpu_us(app, f"/jobs/{job_id}"),
            await cpu_us(minimal, f"/jobs/{job_id}"),
        )
        print(f"| {status} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        asyncio.run(main(Path(place)))
