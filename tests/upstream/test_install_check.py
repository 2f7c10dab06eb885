"""`make actionmesh` tells in one line each what is missing, before it downloads anything."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.upstream import fetching
from tests.upstream.fetching import ROOT
from upstream.cuda_driver import Driver, NoDriver
from upstream.install_check import (
    Finding,
    Need,
    check_disk,
    check_driver,
    check_git,
    check_python,
    hub_cache,
    needs,
    pip_cache,
)
from upstream.sources import SOURCES, TOTAL_GB


def texts(findings: Iterable[Finding], fatal: bool) -> str:
    """One line, or "" if nothing is missing."""
    found = list(findings)
    assert all(finding.fatal is fatal for finding in found)
    assert all("\n" not in finding.text for finding in found)
    return " | ".join(finding.text for finding in found)


@pytest.mark.parametrize("version", [(3, 10), (3, 11), (3, 12), (3, 13)])
def test_the_versions_that_numpy_has_wheels_for_pass(version: tuple[int, int]) -> None:
    assert not texts(check_python(version, "x86_64"), fatal=True)


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_another_python_is_refused_with_the_command(version: tuple[int, int]) -> None:
    text = texts(check_python(version, "x86_64"), fatal=True)
    assert "3.10 to 3.13" in text and "make actionmesh PYTHON=" in text


def test_another_processor_is_refused() -> None:
    assert "aarch64" in texts(check_python((3, 12), "aarch64"), fatal=True)


def test_without_git_or_a_clone_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not texts(check_git(ROOT), fatal=True)
    assert "git clone" in texts(check_git(tmp_path), fatal=True)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert not texts(check_git(tmp_path), fatal=True)
    (tmp_path / "unpacked").mkdir()
    assert "no git clone" in texts(check_git(tmp_path / "unpacked"), fatal=True)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install git" in texts(check_git(ROOT), fatal=True)


def test_no_gpu_is_a_warning_and_a_driver_that_is_too_old_an_error() -> None:
    assert "no NVIDIA driver" in texts(check_driver(NoDriver(False), None, {}), fatal=False)
    old = Driver("550.54.15", (12, 4), gpus=1)
    assert "driver 580" in texts(check_driver(old, None, {}), fatal=True)
    assert "built for the CPU" in texts(check_driver(old, "", {}), fatal=True)
    assert not texts(check_driver(old, "12.6", {}), fatal=True)


def test_folders_on_one_disk_share_its_space(tmp_path: Path) -> None:
    free_gb = shutil.disk_usage(tmp_path).free / 1e9
    half = [
        Need("weights", "HF_HOME", tmp_path / "hf" / "new", free_gb * 0.6),
        Need("packages", "", tmp_path / ".venv", free_gb * 0.6),
    ]
    assert not texts(check_disk(half[:1]), fatal=True)
    text = texts(check_disk(half), fatal=True)
    assert f"{sum(need.gb for need in half):.1f} GB are needed" in text
    assert "GB for weights" in text and "GB for packages" in text
    assert "Free space, or set HF_HOME to a folder on another disk" in text
    alone = texts(check_disk([Need("packages", "", tmp_path, free_gb * 2)]), fatal=True)
    assert alone.endswith("Free space")


def test_weights_that_are_there_are_not_counted(tmp_path: Path) -> None:
    environ = {"HF_HOME": str(tmp_path)}
    assert needs(environ)[0].gb == pytest.approx(TOTAL_GB) == pytest.approx(16.15, abs=0.01)
    # RMBG-1.4 is small: 0.18 GB; on a disk without links the files are in `snapshots`
    source = next(source for source in SOURCES if source.name == "rmbg")
    folder = hub_cache(environ) / source.cache_folder
    for name, size in (("snapshots/main/model.safetensors", 20_000_000), ("blobs/0123", 10**7)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(bytes(size))
    (folder / "snapshots/main/config.json").symlink_to("../../blobs/0123")
    with open(folder / "blobs" / "4567.incomplete", "wb") as unfinished:
        os.truncate(unfinished.fileno(), 100_000_000)  # Xet writes parts in any order
    assert needs(environ)[0].gb == pytest.approx(TOTAL_GB - 0.03, abs=1e-3)
    (folder / "blobs" / "of another revision").write_bytes(bytes(170_000_000))
    assert needs(environ)[0].gb == pytest.approx(TOTAL_GB - source.size_gb, abs=1e-3)


def test_the_cache_of_pip_is_where_pip_puts_it(tmp_path: Path) -> None:
    for variables in ({"PIP_CACHE_DIR": str(tmp_path)}, {"XDG_CACHE_HOME": "/x"}, {}):
        environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **variables}
        asked = subprocess.run(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "cache", "dir"],
            env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert str(pip_cache(variables)) == asked.stdout.strip()


def test_files_of_another_user_end_it_with_a_line(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with fetching.restricted(closed):
        checked = subprocess.run(
            [*fetching.UNPRIVILEGED, sys.executable, "-m", "upstream.install_check"],
            cwd=ROOT, env={**os.environ, "HF_HOME": str(closed / "hf")},
            capture_output=True, text=True,
        )  # fmt: skip
    assert "Traceback" not in checked.stderr


def test_the_cache_is_where_the_hubs_library_puts_it(tmp_path: Path) -> None:
    script = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for variables in (
        {"HF_HOME": "~/models"}, {"HF_HUB_CACHE": str(tmp_path)}, {"XDG_CACHE_HOME": "/x"}, {},
        {"HUGGINGFACE_HUB_CACHE": str(tmp_path)},
    ):  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), **variables}
        asked = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        assert str(hub_cache(variables)) == asked.stdout.strip()


def test_it_runs_without_packages_and_ends_with_1_only_for_an_error(tmp_path: Path) -> None:
    program = [sys.executable, "-S", "-m", "upstream.install_check"]  # -S: no site-packages
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    missing = subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert missing.returncode == 1 and "Traceback" not in missing.stderr
    lines = missing.stderr.strip().splitlines()
    assert any(line.startswith("ERROR: git is missing") for line in lines)
    assert all(line.startswith(("ERROR: ", "WARNING: ")) for line in lines)


def test_make_checks_before_it_installs() -> None:
    planned = subprocess.run(
        ["make", "-n", "actionmesh"],
        cwd=ROOT, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    steps = ("upstream.install_check", "submodule update", "actionmesh.txt", "upstream.weights")
    places = [planned.index(step) for step in steps]
    assert places == sorted(places)
