"""Files in JOBS_DIR that are torn, foreign or from a newer server; and two servers on one."""

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

from job.folder import JobsFolder
from job_store import JobStore
from tests.faults.conftest import MakeServer
from tests.job_factory import accept, result, write_attempt
from tests.servers import ROOT, free_port
from tests.waiting import wait_until


def a_finished_job(jobs_dir: Path) -> str:
    store = JobStore(JobsFolder(jobs_dir))
    store.open()
    job_id = accept(store).job_id
    store.start(job_id)
    write_attempt(store, job_id, 1)
    store.folder.publish_outputs(job_id, 1, result())
    store.finish(job_id, result())
    store.close()
    return job_id


def test_unreadable_records_are_set_aside_newer_ones_left_alone_and_work_goes_on(
    make_server: MakeServer, clip: Path
) -> None:
    server = make_server()
    good = a_finished_job(server.jobs_dir)
    content = (server.jobs_dir / good / "job.json").read_bytes()

    def put(content: bytes) -> str:
        job_id = str(uuid4())
        (server.jobs_dir / job_id).mkdir()
        (server.jobs_dir / job_id / "job.json").write_bytes(content)
        return job_id

    broken = [
        put(content[: len(content) // 2]),  # torn
        put(b""),
        put(b"\0" * len(content)),  # what a power cut leaves on some file systems
        put(b'{"schema":1,"hello":"world"}\n'),
        put(content),  # somebody copied a folder
    ]
    newer = put(json.dumps({**json.loads(content), "schema": 99}).encode())
    linked = server.jobs_dir / str(uuid4())
    linked.symlink_to(server.jobs_dir / good)

    server.start()
    wait_until(lambda: len(list((server.jobs_dir / ".quarantine").iterdir())) == len(broken))
    assert server.job(good)["status"] == "finished"
    assert [server.http.get(f"/jobs/{job_id}").status_code for job_id in broken] == [404] * 5
    assert (server.jobs_dir / newer / "job.json").exists() and linked.is_symlink()
    assert "newer server" in server.said()
    server.wait_for(server.submit(clip))


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_unharmed(
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
        wait_until(lambda: _status(health) == 200, 30.0)


def test_of_two_uvicorn_workers_one_is_refused_and_never_works(make_server: MakeServer) -> None:
    with uvicorn(make_server, "--workers", "2") as (_, log):

        def said(what: str) -> int:
            return len(re.findall(what, log.read_text()))

        wait_until(lambda: said("in use by another server") and said(r"child \d+ starts"), 60.0)
        assert said("Application startup complete") == 1
        assert said(r"child \d+ starts") == 1


def _status(url: str) -> int:
    try:
        return httpx.get(url, trust_env=False, timeout=5.0).status_code
    except httpx.TransportError:
        return 0
