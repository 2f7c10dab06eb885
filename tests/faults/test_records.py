"""Incomplete, unknown and newer files in JOBS_DIR, and two servers on one JOBS_DIR."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx

from tests.faults.conftest import MakeServer
from tests.job_factory import finished_jobs
from tests.servers import ROOT, free_port
from tests.waiting import wait_until


def test_unreadable_records_are_set_aside_newer_ones_are_kept_and_jobs_still_run(
    make_server: MakeServer, clip: Path
) -> None:
    server = make_server()
    good = finished_jobs(server.jobs_dir, 1)[0]
    content = (server.jobs_dir / good / "job.json").read_bytes()

    def put(content: bytes) -> str:
        job_id = str(uuid4())
        (server.jobs_dir / job_id).mkdir()
        (server.jobs_dir / job_id / "job.json").write_bytes(content)
        return job_id

    broken = [
        put(content[: len(content) // 2]),  # incomplete
        put(b""),
        put(b"\0" * len(content)),  # as some file systems leave it after a power cut
        put(b'{"schema":1,"hello":"world"}\n'),
        put(content),  # a copied folder
    ]
    newer = put(json.dumps({**json.loads(content), "schema": 99}).encode())
    linked = server.jobs_dir / str(uuid4())
    linked.symlink_to(server.jobs_dir / good)

    server.start()
    wait_until(lambda: len(list((server.jobs_dir / ".quarantine").iterdir())) == len(broken))
    assert server.job(good)["status"] == "finished"
    assert [server.http.get(f"/jobs/{job_id}").status_code for job_id in broken] == [404] * 5
    assert (server.jobs_dir / newer / "job.json").exists() and linked.is_symlink()
    assert "newer server" in server.output()
    server.wait_for(server.submit(clip))


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_keeps_running(
    make_server: MakeServer,
) -> None:
    first = make_server().start()
    second = subprocess.run(
        [sys.executable, "main.py"],
        cwd=ROOT,
        env={**first.environment("", {}), "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert second.returncode == 2
    assert f"in use by another server (pid {first.pid})" in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert first.answers()


@contextmanager
def uvicorn(make_server: MakeServer, *arguments: str) -> Iterator[tuple[int, Path]]:
    """`uvicorn main:app` as in the README, with more arguments; its port and its log."""
    server, port = make_server(), free_port()
    with open(server.log, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--host", "127.0.0.1",
             "--port", str(port), *arguments],
            cwd=ROOT, env=server.environment("", {}), stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield port, server.log
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_uvicorn_serves_as_in_the_readme(make_server: MakeServer) -> None:
    with uvicorn(make_server) as (port, _):
        health = f"http://127.0.0.1:{port}/health"
        wait_until(lambda: _status(health) == 200)


def test_of_two_uvicorn_workers_one_is_refused_and_never_works(make_server: MakeServer) -> None:
    with uvicorn(make_server, "--workers", "2") as (_, log):

        def count_in_log(what: str) -> int:
            return len(re.findall(what, log.read_text()))

        wait_until(
            lambda: count_in_log("in use by another server") and count_in_log(r"child \d+ starts"),
            60.0,
        )
        assert count_in_log("Application startup complete") == 1
        assert count_in_log(r"child \d+ starts") == 1


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=5.0).status_code
    except httpx.TransportError:
        return 0
