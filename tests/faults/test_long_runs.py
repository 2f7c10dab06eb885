"""Short runs of what `make torture` and `make fuzz` do for hours."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults.fuzz import glbs, heads, videos, zips
from tests.faults.random_kills import main as kill_at_random


@pytest.mark.slow
@pytest.mark.timeout(900)  # it waits for jobs, and the machine may be busy
def test_twelve_random_kills_break_no_promise(capsys: pytest.CaptureFixture[str]) -> None:
    assert kill_at_random(["12", "1"]) == 0, capsys.readouterr().out
    assert "broken: nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "count", [25, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_mutated_files_cause_no_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.chdir(tmp_path)  # findings would be kept here
    said: list[str] = []
    with subprocess.Popen(["sh", "-c", "while sleep 0.05; do :; done"]) as bystander:
        try:
            found = videos.run(count, 1, said.append)
        finally:
            bystander.kill()
    assert (found.found, found.tried) == (0, count), said


@pytest.mark.parametrize("corpus", [zips, glbs], ids=["zips", "glbs"])
@pytest.mark.parametrize(
    "count", [15, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_contradictory_zips_and_meshes_cause_no_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: ModuleType, count: int
) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    found = corpus.run(count, 1, said.append)
    assert (found.found, found.tried) == (0, count), said
    assert found.endings["read"] > 0 and len(found.endings) > 1


def test_random_heads_cause_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # findings would be kept here
    said: list[str] = []
    found = heads.run(200, 1, said.append)
    assert (found.found, found.tried) == (0, 200), said
    assert {"200", "404 job_not_found", "431 head_too_large"} <= set(found.endings)


def test_replies_that_are_wrong_are_findings() -> None:
    request, ids = b"GET / HTTP/1.1\r\n\r\n", b"X-Request-ID: 1\r\n\r\n"
    assert heads.judged(request, b"")[0] == "a complete request has no reply"
    assert "X-Request-ID" in heads.judged(request, b"HTTP/1.1 200 OK\r\n\r\n")[0]
    assert heads.judged(request, b"HTTP/1.1 500 No\r\n" + ids) == ("an undeclared 500", "500")
    busy = b'{"code":"queue_full"}'
    assert heads.judged(request, b"HTTP/1.1 503 Busy\r\n" + ids + busy) == ("", "503 queue_full")


def test_a_seed_gives_the_same_mutations() -> None:
    files = [b"\0\0\0\x10ftypisom" * 9, b"x"]
    runs = [[videos.mutated(random.Random(seed), files) for seed in range(500)] for _ in range(2)]
    assert runs[0] == runs[1] and len(set(runs[0])) > 50
