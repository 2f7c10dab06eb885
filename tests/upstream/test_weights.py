"""Weights are downloaded once, checked and found offline; failures are in test_download_errors.py.

A real process or server, and a hub on this machine with the real repositories' names. No torch.
"""

from __future__ import annotations

import hashlib
import os
import pty
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import huggingface_hub
import pytest

from errors import WeightsUnavailable
from settings import Settings
from tests.servers import ProcessServer
from tests.upstream.fetching import ROOT, cached, fails, start, succeeds
from tests.upstream.huggingface_server import Hub, Refusal, safetensors, small_repositories
from tests.waiting import wait_until
from upstream.huggingface import remove_cached
from upstream.sources import SOURCES
from upstream.weights import ensure_weights, incomplete_files

RMBG = next(source for source in SOURCES if source.runs_code)
SAM2 = next(source for source in SOURCES if source.optional)
DENOISER = "facebook/ActionMesh/denoiser/model.safetensors"
LARGE = safetensors(30_000_000)
"""The hub's library writes pieces of 10 MB: of this file's first half, one piece is on disk."""
RESUMES = int(huggingface_hub.__version__.partition(".")[0]) < 1
"""Newer versions of the hub's library remove an unfinished file (ActionMesh pins 0.36)."""


@pytest.fixture
def large(hub: Hub) -> Hub:
    """The hub with one file of 30 MB."""
    hub.repositories["facebook/ActionMesh"]["denoiser/model.safetensors"] = LARGE
    return hub


def on_disk(home: Path) -> int:
    """Bytes of files that are not finished."""
    return sum(path.stat().st_size for path in home.rglob("*.incomplete"))


def test_without_any_setting_the_files_in_use_are_downloaded_once(tmp_path: Path, hub: Hub) -> None:
    text = succeeds(start(tmp_path, hub))
    assert "weights are complete" in text
    for source in SOURCES:
        assert incomplete_files(cached(tmp_path, source), source) == []
    assert not {name for name in hub.sent if name.endswith((".onnx", ".bin", ".pth", ".md"))}
    hub.is_down = True
    succeeds(start(tmp_path, hub))
    succeeds(start(tmp_path, hub, HF_HUB_OFFLINE="1"))


def test_the_optional_weights_are_at_their_pinned_commit(tmp_path: Path, hub: Hub) -> None:
    succeeds(start(tmp_path, hub))
    folder = cached(tmp_path, SAM2)
    assert folder.name == Settings().sam2_revision
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "model.safetensors"]


def test_without_the_optional_weights_it_starts_and_says_so(tmp_path: Path, hub: Hub) -> None:
    hub.refusals[SAM2.repo_id] = Refusal(503)
    assert f"works without {SAM2.repo_id}" in succeeds(start(tmp_path, hub))
    del hub.refusals[SAM2.repo_id]
    hub.sent.clear()
    succeeds(start(tmp_path, hub))
    fetched = {name for name in hub.sent if name}
    assert fetched == {f"{SAM2.repo_id}/{name}" for name in ("config.json", "model.safetensors")}
    shutil.rmtree(tmp_path / "hub" / SAM2.cache_folder)
    hub.is_down = True
    assert "works without" in succeeds(start(tmp_path, hub, HF_HUB_OFFLINE="1"))


def test_a_terminal_shows_how_many_bytes_are_there(tmp_path: Path, large: Hub) -> None:
    large.held[DENOISER] = threading.Event()
    ours, theirs = pty.openpty()
    process = start(tmp_path, large, terminal=theirs)
    os.close(theirs)
    shown = b""
    while b"10 of 30 MB" not in shown:
        shown += os.read(ours, 4096)
    large.held[DENOISER].set()
    while b"30 of 30 MB" not in shown:
        shown += os.read(ours, 4096)
    succeeds(process)
    os.close(ours)
    assert b"Fetching" not in shown, "the hub's own bars are drawn over ours"


def test_ready_counts_the_bytes_until_a_job_would_run(
    tmp_path: Path, large: Hub, start_server: Callable[..., ProcessServer]
) -> None:
    large.held[DENOISER] = threading.Event()
    server = start_server(
        PIPELINE="tests.pipelines:FetchesWeights",
        HF_HOME=str(tmp_path / "hf"),
        HF_ENDPOINT=large.endpoint,
    )

    def progress() -> dict[str, int]:
        reply: dict[str, Any] = httpx.get(f"{server.url}/ready", timeout=10).json()
        assert reply["ready"] or reply["reason"] in ("downloading_weights", "loading_model"), reply
        return reply.get("progress") or {"done_bytes": 0, "total_bytes": 0}

    wait_until(lambda: progress()["done_bytes"] >= 10_000_000)
    half = progress()
    assert half["done_bytes"] < half["total_bytes"]
    wanted = {
        source: sum(
            len(body)
            for name, body in large.repositories[source.repo_id].items()
            if any(Path(name).match(pattern) for pattern in source.patterns)
        )
        for source in SOURCES
    }
    needed = [size for source, size in wanted.items() if not source.optional]
    assert half["total_bytes"] == sum(needed)
    large.held[DENOISER].set()
    wait_until(lambda: httpx.get(f"{server.url}/ready", timeout=10).status_code == 200)
    assert sum(large.sent[name] for name in large.sent if name) == sum(wanted.values())


def test_a_cut_connection_is_continued_where_it_ended(tmp_path: Path, large: Hub) -> None:
    large.cuts[DENOISER] = 1
    succeeds(start(tmp_path, large))
    assert len(LARGE) <= large.sent[DENOISER] < 1.5 * len(LARGE), "it began again"


def test_after_a_kill_only_the_rest_is_downloaded(tmp_path: Path, large: Hub) -> None:
    large.held[DENOISER] = threading.Event()
    process = start(tmp_path, large)
    wait_until(lambda: on_disk(tmp_path) >= 10_000_000)
    process.kill()
    process.communicate()
    blob = hashlib.sha256(LARGE).hexdigest()
    left = sum(path.stat().st_size for path in tmp_path.rglob(f"{blob}.incomplete"))
    large.held[DENOISER].set()
    finished = {
        f"{source.repo_id}/{path.relative_to(folder)}"
        for source in SOURCES
        for folder in (cached(tmp_path, source),)
        for path in folder.rglob("*")
    }
    large.sent.clear()
    succeeds(start(tmp_path, large))
    assert large.sent[DENOISER] == len(LARGE) - (left if RESUMES else 0)
    assert not finished & set(large.sent)


def test_two_processes_at_once_download_each_file_once(tmp_path: Path, large: Hub) -> None:
    large.held[DENOISER] = threading.Event()
    both = [start(tmp_path, large), start(tmp_path, large)]
    wait_until(lambda: large.listings[RMBG.repo_id] == 2)
    large.held[DENOISER].set()
    for process in both:
        succeeds(process)
    assert all(large.sent[name] == large.size(name) for name in large.sent if name)


def test_an_incomplete_file_is_downloaded_again(tmp_path: Path, hub: Hub) -> None:
    succeeds(start(tmp_path, hub))
    incomplete = cached(tmp_path, RMBG) / "model.safetensors"
    os.truncate(incomplete, 500)
    assert incomplete_files(incomplete.parent, RMBG) == ["model.safetensors"]
    succeeds(start(tmp_path, hub))
    assert incomplete_files(incomplete.parent, RMBG) == []


def test_a_file_in_the_place_of_a_folder_counts_as_missing(tmp_path: Path, hub: Hub) -> None:
    succeeds(start(tmp_path, hub))
    folder = next(source for source in SOURCES if source.folders != (".",))
    held = cached(tmp_path, folder) / folder.folders[0]
    shutil.rmtree(held)
    held.write_bytes(b"")
    hub.is_down = True
    failed = fails(start(tmp_path, hub))
    assert f"{folder.repo_id} are not on disk and cannot be fetched" in failed


def test_an_empty_hf_home_means_the_default_one_and_a_tilde_the_home(
    tmp_path: Path, hub: Hub
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for value, folder in (("", home / ".cache" / "huggingface"), ("~/hf", home / "hf")):
        succeeds(start(tmp_path, hub, HOME=str(home), HF_HOME=value))
        assert cached(folder, RMBG).is_dir()
    assert not (ROOT / "hub").exists() and not (ROOT / "~").exists()


def test_a_machine_that_asks_for_hf_transfer_needs_none(tmp_path: Path, hub: Hub) -> None:
    succeeds(start(tmp_path, hub, HF_HUB_ENABLE_HF_TRANSFER="1"))  # RunPod's images set it


def test_a_file_that_the_hubs_own_protocol_refuses_comes_over_http(
    tmp_path: Path, hub: Hub
) -> None:
    hub.on_xet.add(DENOISER)
    body = hub.repositories["facebook/ActionMesh"]["denoiser/model.safetensors"]
    blobs = tmp_path / "hub" / SOURCES[0].cache_folder / "blobs"
    blobs.mkdir(parents=True)
    with open(blobs / f"{hashlib.sha256(body).hexdigest()}.incomplete", "wb") as unfinished:
        os.truncate(unfinished.fileno(), len(body) // 2)  # a gap: that protocol has no order
    text = succeeds(start(tmp_path, hub))
    assert "continues after" in text
    assert hub.sent[DENOISER] == hub.size(DENOISER)


def test_rmbg_at_a_branch_is_refused_as_its_code_runs_here() -> None:
    with pytest.raises(WeightsUnavailable, match="RMBG_REVISION") as refused:
        ensure_weights({"rmbg": "main"}, lambda *_: None)
    assert "https://huggingface.co/briaai/RMBG-1.4/commits/main" in refused.value.hint


def test_code_of_another_repository_is_refused(tmp_path: Path, hub: Hub) -> None:
    config = b'{"auto_map": {"AutoConfig": "else/where--net.Config"}}'
    hub.repositories[RMBG.repo_id]["config.json"] = config
    assert "else/where--net.Config" in fails(start(tmp_path, hub))


@pytest.mark.parametrize("cut", [0, 4, 60, 3000])
def test_a_truncated_file_is_recognised_by_its_header(tmp_path: Path, cut: int) -> None:
    for name, body in small_repositories()[RMBG.repo_id].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
    assert incomplete_files(tmp_path, RMBG) == []
    os.truncate(tmp_path / "model.safetensors", cut)
    assert incomplete_files(tmp_path, RMBG) == ["model.safetensors"]
    remove_cached(tmp_path / "model.safetensors")
    assert incomplete_files(tmp_path, RMBG) == ["model.safetensors", "./*.safetensors"]
