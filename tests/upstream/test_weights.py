"""Weights are downloaded once, checked, and found offline; errors name the problem."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from errors import WeightsUnavailable
from tests.upstream.huggingface_server import Files, running_hub, safetensors
from upstream.huggingface import remove_cached
from upstream.weights import SOURCES, ensure_weights, incomplete_files

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).resolve().parents[2]
RMBG = next(source for source in SOURCES if source.runs_code)


def complete_files() -> dict[str, Files]:
    """A small complete set for every source, and a large file that is not needed."""
    files: dict[str, Files] = {}
    for source in SOURCES:
        mine: Files = {"onnx/model.onnx": b"not wanted"}
        for pattern in source.patterns:
            mine[pattern.replace("*.py", "net.py").replace("*", "config.json")] = b"{}"
        for folder in source.folders:
            mine["model.safetensors" if folder == "." else f"{folder}/model.safetensors"] = (
                safetensors(3000)
            )
        files[source.repo_id] = mine
    return files


def fetch_in_new_process(
    home: Path, endpoint: str, **more: str
) -> subprocess.CompletedProcess[str]:
    """`python -m upstream.weights`, as `make actionmesh` calls it."""
    environment = {
        "PATH": os.environ["PATH"],
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "RMBG_REVISION": COMMIT,
        **more,
    }
    return subprocess.run(
        [sys.executable, "-m", "upstream.weights"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def cached(home: Path, repo_id: str) -> Path:
    return home / "hub" / f"models--{repo_id.replace('/', '--')}" / "snapshots" / COMMIT


def test_weights_are_downloaded_once_and_then_found_offline(tmp_path: Path) -> None:
    files = complete_files()
    with running_hub(files, COMMIT) as endpoint:
        first = fetch_in_new_process(tmp_path, endpoint)
    assert first.returncode == 0, first.stderr
    assert "weights are complete" in first.stderr
    for source in SOURCES:
        folder = cached(tmp_path, source.repo_id)
        assert incomplete_files(folder, source) == []
        assert not (folder / "onnx").exists()
    again = fetch_in_new_process(tmp_path, endpoint)  # the hub is no longer running
    assert again.returncode == 0, again.stderr


def test_an_incomplete_file_is_downloaded_again(tmp_path: Path) -> None:
    with running_hub(complete_files(), COMMIT) as endpoint:
        assert fetch_in_new_process(tmp_path, endpoint).returncode == 0
        incomplete = cached(tmp_path, RMBG.repo_id) / "model.safetensors"
        os.truncate(incomplete, 500)
        assert incomplete_files(incomplete.parent, RMBG) == ["model.safetensors"]
        again = fetch_in_new_process(tmp_path, endpoint)
    assert again.returncode == 0, again.stderr
    assert incomplete_files(incomplete.parent, RMBG) == []


def test_a_file_in_the_place_of_a_folder_counts_as_missing(tmp_path: Path) -> None:
    with running_hub(complete_files(), COMMIT) as endpoint:
        assert fetch_in_new_process(tmp_path, endpoint).returncode == 0
    folder = next(source for source in SOURCES if source.folders != (".",))
    held = cached(tmp_path, folder.repo_id) / folder.folders[0]
    shutil.rmtree(held)
    held.write_bytes(b"")
    failed = fetch_in_new_process(tmp_path, "http://127.0.0.1:9")
    assert failed.returncode == 1
    assert f"{folder.repo_id} are not on disk and cannot be fetched" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_without_network_and_weights_the_error_has_a_hint(tmp_path: Path) -> None:
    failed = fetch_in_new_process(tmp_path, "http://127.0.0.1:9")
    assert failed.returncode == 1
    assert "facebook/ActionMesh are not on disk and cannot be fetched" in failed.stderr
    assert "HF_HOME" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_unknown_repository_is_named_with_the_page_of_its_commits(tmp_path: Path) -> None:
    files = complete_files()
    del files["VAST-AI/TripoSG"]
    with running_hub(files, COMMIT) as endpoint:
        failed = fetch_in_new_process(tmp_path, endpoint)
    assert failed.returncode == 1
    assert "https://huggingface.co/VAST-AI/TripoSG" in failed.stderr


def test_rmbg_without_a_commit_is_refused_as_its_code_runs_here(tmp_path: Path) -> None:
    failed = fetch_in_new_process(tmp_path, "http://127.0.0.1:9", RMBG_REVISION="")
    assert failed.returncode == 1
    assert "https://huggingface.co/briaai/RMBG-1.4/commits/main" in failed.stderr
    with pytest.raises(WeightsUnavailable, match="RMBG_REVISION"):
        ensure_weights({"rmbg": "main"}, lambda *_: None)


def test_code_of_another_repository_is_refused(tmp_path: Path) -> None:
    files = complete_files()
    files[RMBG.repo_id]["config.json"] = b'{"auto_map": {"AutoConfig": "else/where--net.Config"}}'
    with running_hub(files, COMMIT) as endpoint:
        failed = fetch_in_new_process(tmp_path, endpoint)
    assert failed.returncode == 1
    assert "else/where--net.Config" in failed.stderr


@pytest.mark.parametrize("cut", [0, 4, 60, 3000])
def test_a_truncated_file_is_recognised_by_its_header(tmp_path: Path, cut: int) -> None:
    for name, body in complete_files()[RMBG.repo_id].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    assert incomplete_files(tmp_path, RMBG) == []
    os.truncate(tmp_path / "model.safetensors", cut)
    assert incomplete_files(tmp_path, RMBG) == ["model.safetensors"]
    remove_cached(tmp_path / "model.safetensors")
    assert incomplete_files(tmp_path, RMBG) == ["model.safetensors", "./*.safetensors"]
