"""The files with bones: made where bones can move the mesh, told of where they cannot."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from child.optional_file import optional_file
from child.reporter import JobReporter
from child.skin_files import find_skin
from errors import Cancelled
from executors.base import ExecutorOptions
from executors.local import LocalExecutor
from job.task import ChildConfig, Task
from meshes.compact import gltfpack_path
from meshes.external_tools import ToolFailed
from meshes.sequence import MeshSequence
from tests.api.bodies import ended, frames_zip, submit
from tests.job_factory import OPTIONS, with_options
from tests.meshes.bending_tube import bending_tube
from tests.meshes.glb_reader import ReadGlb
from tests.meshes.gltf_player import GltfPlayer
from tests.servers import quick_settings, thread_server

BENDS, SHAKES = 1, 2
"""Seeds, by which the pipeline finds its meshes."""


def shaking_tube() -> MeshSequence:
    """Each vertex goes its own way, by up to a tenth: no bones can move it."""
    tube = bending_tube(16)[0]
    away = np.random.default_rng(3).uniform(-0.1, 0.1, tube.vertices.shape)
    away[0] = 0
    return replace(tube, vertices=(tube.vertices + away).astype(np.float32))


@dataclass(frozen=True)
class Service:
    """A server that has two meshes: seed BENDS and seed SHAKES."""

    client: httpx.Client

    def run(self, seed: int, formats: str) -> dict[str, Any]:
        """The finished job."""
        job = ended(self.client, submit(self.client, seed=str(seed), formats=formats))
        assert job["status"] == "finished", job
        return job

    def read(self, address: str) -> bytes:
        return self.client.get(address).raise_for_status().content


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("skins")
    bending_tube(16)[0].save(folder / f"{BENDS}.npz")
    shaking_tube().save(folder / f"{SHAKES}.npz")
    settings = quick_settings(folder / "jobs")
    config = ChildConfig("tests.pipelines:ReadsItsMeshes")
    executor = LocalExecutor(ExecutorOptions(config))
    with (
        thread_server(settings.jobs_dir, executor, settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        yield Service(client)


def test_a_job_adds_the_skinned_and_the_compact_mesh(service: Service) -> None:
    job = service.run(BENDS, "skinned,compact,npz")
    outputs, codes = job["outputs"], {warning["code"] for warning in job["warnings"]}
    played = GltfPlayer(service.read(outputs["skinned_mesh"]))
    sequence = bending_tube(16)[0]
    size = np.linalg.norm(np.ptp(sequence.vertices[0], axis=0))
    for k, vertices in enumerate(sequence.vertices):
        moved = played.skinned(k / job["mesh"]["fps"])
        assert np.linalg.norm(moved - vertices, axis=1).max() <= 0.015 * size
    facts = played.read.tree["asset"]["extras"]
    assert (facts["pipeline"], facts["seed"]) == ("tests", BENDS)
    assert 0 <= facts["rms"] <= 0.002 and facts["rms"] <= facts["largest"] <= 0.015
    names = {file["name"] for file in job["files"]}
    assert {"animated_mesh.glb", "animated_mesh.npz", "skinned_mesh.glb"} <= names
    assert not any("." not in name or name.startswith("compact-") for name in names)
    assert "skin_inexact" not in codes
    if gltfpack_path() is None:
        assert outputs["compact_mesh"] is None and "compact_unavailable" in codes
    else:
        compact = ReadGlb(service.read(outputs["compact_mesh"])).tree
        assert "EXT_meshopt_compression" in compact["extensionsRequired"] and compact["skins"]


def test_a_mesh_that_bones_cannot_move_gets_none_and_a_warning(service: Service) -> None:
    job = service.run(SHAKES, "skinned,compact")
    assert job["outputs"]["skinned_mesh"] is None
    assert not any(file["name"].startswith("skinned") for file in job["files"])
    (warning,) = (found for found in job["warnings"] if found["code"] == "skin_inexact")
    assert warning["rms"] > 0.003 or warning["largest"] > 0.03
    assert 0 < warning["rms"] < warning["p99"] < warning["largest"]
    assert f"{warning['largest']:.1%}" in warning["message"]
    if gltfpack_path() is not None:
        compact = ReadGlb(service.read(job["outputs"]["compact_mesh"])).tree
        assert "skins" not in compact and compact["meshes"][0]["primitives"][0]["targets"]


# --- inside the child


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A job for a skinned mesh."""
    folder = tmp_path / "6b2f8c1e-7f1c-4f4e-9d43-1d2c3b4a5f60"
    folder.mkdir()
    (folder / "input").write_bytes(frames_zip())
    task = Task(folder.name, 1, folder, "zip", OPTIONS)
    return with_options(task, formats=("skinned",))


def test_finding_bones_has_its_part_of_the_progress_and_can_be_cancelled(task: Task) -> None:
    cancelled, sent = threading.Event(), list[dict[str, Any]]()

    def note(_: str, **about: Any) -> None:
        sent.append(about)
        if about["fraction"] > sent[0]["fraction"] + 0.05:
            cancelled.set()

    reporter = JobReporter(task, "tests", {}, note, cancelled)
    reporter.plan("skin", "rendering")
    with pytest.raises(Cancelled):
        find_skin(shaking_tube(), reporter)
    assert {(about["stage"], about["message"]) for about in sent} == {
        ("exporting", "Finding the bones")
    }
    assert cancelled.is_set() and reporter.warnings == []


def fail(failure: Exception) -> None:
    raise failure


@pytest.mark.parametrize("failure", [ToolFailed("it failed"), ValueError("no bones"), ImportError])
def test_what_fails_in_an_optional_file_is_a_warning(task: Task, failure: Exception) -> None:
    reporter = JobReporter(task, "tests", {}, lambda *_, **__: None, threading.Event())
    with optional_file(reporter, "skin_failed", "No bones could be found."):
        fail(failure)
    assert reporter.warnings == [{"code": "skin_failed", "message": "No bones could be found."}]


@pytest.mark.parametrize("failure", [Cancelled(), OSError(errno.ENOSPC, "full")])
def test_a_cancel_and_a_full_disk_are_no_warnings(task: Task, failure: Exception) -> None:
    reporter = JobReporter(task, "tests", {}, lambda *_, **__: None, threading.Event())
    with pytest.raises(type(failure)), optional_file(reporter, "skin_failed", ""):
        fail(failure)
    assert reporter.warnings == []
