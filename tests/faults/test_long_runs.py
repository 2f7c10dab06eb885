"""A minute of what `make torture` and `make fuzz` do for longer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks import fuzz, torture

pytestmark = pytest.mark.slow


@pytest.mark.timeout(900)  # it waits for jobs, and others may be using this machine
def test_a_dozen_random_kills_break_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert torture.main(["12", "1"]) == 0, capsys.readouterr().out
    assert "broken: nothing" in capsys.readouterr().out


@pytest.mark.timeout(600)
def test_a_hundred_mutated_files_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # findings would be kept here
    said: list[str] = []
    with subprocess.Popen(["sh", "-c", "while sleep 0.05; do :; done"]) as bystander:
        try:
            found = fuzz.fuzz(100, 1, tell=said.append)
        finally:
            bystander.kill()
    assert found == 0, said
