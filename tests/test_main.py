"""The program itself: how it starts, refuses to start, and stops."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from main import create_app
from pipeline import Gpu
from settings import Settings
from tests.servers import ROOT, ProcessServer, free_port, wait_for_health

Start = Callable[..., ProcessServer]


def run_main(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    """Start the program with settings that it should refuse."""
    return subprocess.run(
        [sys.executable, *(command or ("main.py",))],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_program_answers(server: ProcessServer) -> None:
    response = httpx.get(f"{server.url}/health", timeout=60)
    assert response.json() == {"status": "healthy", "gpu_available": False}
    assert "server" not in response.headers
    assert server.jobs_dir.stat().st_mode & 0o777 == 0o700


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    for command in ((), ("-m", "uvicorn", "main:app", "--port", str(free_port()))):
        done = run_main({"MAX_QUEUE": "many", "JOBS_DIR": str(tmp_path / "jobs")}, *command)
        assert done.returncode != 0
        assert done.stderr.strip().count("\n") == 0
        assert "MAX_QUEUE must be" in done.stderr and "'many'" in done.stderr
    assert run_main({"MAX_QUEUE": "many"}).returncode == 2


def test_a_required_key_that_is_missing_is_one_line() -> None:
    done = run_main({"REQUIRE_AUTH": "1"})
    assert done.returncode == 2 and "API_KEY" in done.stderr and "\n" not in done.stderr.strip()


def test_one_server_per_jobs_dir(server: ProcessServer) -> None:
    environment = {"JOBS_DIR": str(server.jobs_dir), "PORT": str(free_port()), "HOST": "127.0.0.1"}
    done = run_main(environment)
    assert done.returncode == 2
    assert f"in use by another server (pid {server.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr and "\n" not in done.stderr.strip()
    port = environment["PORT"]
    done = run_main(environment, "-m", "uvicorn", "main:app", "--port", port)
    assert done.returncode != 0 and "in use by another server" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_happens_at_import() -> None:
    done = run_main({"PORT": "wrong"}, "-c", "import main")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


CARDS = [Gpu("large", 80.0, selector="GPU-1"), Gpu("small", 24.0, selector="GPU-2")]


@pytest.mark.parametrize(
    ("pipeline", "workers", "expected"),
    [
        ("actionmesh", 0, ["GPU-1", "GPU-2"]),
        ("actionmesh", 1, ["GPU-1"]),
        ("actionmesh", 9, ["GPU-1", "GPU-2"]),
        ("tests.pipelines:Bends", 0, ["GPU-1", "GPU-2"]),
        ("silhouette", 0, [None]),
        ("silhouette", 3, [None, None, None]),
    ],
)
def test_one_child_per_gpu_and_gpu_workers_limits_them(
    pipeline: str, workers: int, expected: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("main.find_gpus", lambda _: CARDS)
    state = create_app(Settings(pipeline=pipeline, gpu_workers=workers)).state.app_state
    executor = state.worker.executor
    assert [gpu and gpu.selector for gpu in executor.options.gpus] == expected
    assert executor.capacity == len(expected)
    used = CARDS[: workers or None]
    assert state.choice.gpu == used[-1]  # the smallest


@pytest.mark.parametrize(
    ("pipeline", "workers", "capacity"),
    [("silhouette", 0, 1), ("silhouette", 2, 2), ("actionmesh", 2, 1)],
)
def test_without_a_gpu_gpu_workers_is_the_number_of_silhouettes(
    pipeline: str, workers: int, capacity: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("main.find_gpus", lambda _: [])
    wanted = "auto" if pipeline == "silhouette" else pipeline
    state = create_app(Settings(pipeline=wanted, gpu_workers=workers)).state.app_state
    assert (state.choice.name, state.worker.executor.capacity) == (pipeline, capacity)


def test_uvicorn_serves_main_app(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "JOBS_DIR": str(tmp_path / "jobs"),
                 "PIPELINE": "silhouette", "PORT": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )  # fmt: skip
    try:
        wait_for_health(f"http://127.0.0.1:{port}", process, log)
        long = httpx.get(f"http://127.0.0.1:{port}/health", headers={"X": "x" * 65_536})
        assert (long.status_code, long.json()["code"]) == (431, "head_too_large")
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        assert "stopped" in log.read_text()
    finally:
        process.kill()
        process.wait(10)


def test_a_public_server_without_a_key_logs_a_warning(start_server: Start) -> None:
    running = start_server(HOST="0.0.0.0")
    assert "NO API_KEY IS SET" in running.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_on_a_signal_and_leaves_no_process(
    start_server: Start, number: signal.Signals
) -> None:
    running = start_server()
    with socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2]))):
        running.process.send_signal(number)
        assert running.process.wait(100) == 0
    assert "Traceback" not in running.log.read_text()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.process.pid, 0)
