"""The client's own mesh beside the video, if the pipeline accepts one."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from intake.glb import MAX_MESH_BYTES
from job.state import JobStatus
from settings import Settings
from tests.inline_executors import FinishesAtOnce
from tests.intake.glb_files import bomb, changed, glb
from tests.servers import thread_server
from tests.waiting import wait_until

CLIP = (Path(__file__).parents[2] / "examples" / "dancing_sprout.mp4").read_bytes()
GLB = glb()


def post(url: str, mesh: bytes, key: str = "", **fields: str) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    files = {"file": ("c.mp4", CLIP), "mesh": ("m.glb", mesh)}
    form = {"mode": "default", **fields}
    return httpx.post(f"{url}/jobs", files=files, data=form, headers=headers, timeout=60)


@pytest.fixture
def actionmesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A server that runs ActionMesh on a GPU of 80 GB; jobs run in the test's executor."""
    from pipeline import Gpu

    monkeypatch.setattr("main.find_gpus", lambda _: [Gpu("a test's GPU", 80.0)])
    return Settings(pipeline="actionmesh", min_free_gb=0, jobs_dir=tmp_path / "jobs")


def test_the_mesh_reaches_the_task_and_a_retry(tmp_path: Path, actionmesh: Settings) -> None:
    executor = FinishesAtOnce()
    with thread_server(tmp_path / "jobs", executor, actionmesh) as server:
        assert httpx.get(f"{server.url}/info", timeout=60).json()["features"]["mesh_input"] is True
        first = post(server.url, GLB)
        assert first.status_code == 202, first.text
        store = server.state.store
        job_id = first.json()["job_id"]
        wait_until(lambda: store.get(job_id).status is JobStatus.FINISHED)
        again = httpx.post(f"{server.url}/jobs/{job_id}/retry", json={"seed": 7}, timeout=60)
        assert again.status_code == 202, again.text
        wait_until(lambda: len(executor.tasks) == 2)
        for task in executor.tasks:
            assert task.options.mesh and (task.folder / "mesh.glb").read_bytes() == GLB


@pytest.mark.parametrize(
    "mesh",
    [
        b"",
        b"glTF",
        b"PK\x03\x04" + bytes(40),
        GLB + b"x",
        GLB.replace(b"\x02", b"\x01", 1),
        bomb(1_000, 10_000),
        changed("accessors.1.componentType", 5126),
    ],
)
def test_a_mesh_that_is_not_a_glb_is_refused_and_not_kept(
    tmp_path: Path, actionmesh: Settings, mesh: bytes
) -> None:
    with thread_server(tmp_path / "jobs", FinishesAtOnce(), actionmesh) as server:
        refused = post(server.url, mesh)
        assert refused.status_code == 422 and refused.json()["code"] == "invalid_parameter"
        assert list(server.state.store.folder.staging.iterdir()) == []


def test_a_mesh_has_its_own_size_limit(tmp_path: Path, actionmesh: Settings) -> None:
    with thread_server(tmp_path / "jobs", FinishesAtOnce(), actionmesh) as server:
        refused = post(server.url, bytes(MAX_MESH_BYTES + 1))
        assert refused.status_code == 413
        assert refused.json()["max_bytes"] == MAX_MESH_BYTES


def test_tries_beside_a_mesh_are_refused(tmp_path: Path, actionmesh: Settings) -> None:
    with thread_server(tmp_path / "jobs", FinishesAtOnce(), actionmesh) as server:
        refused = post(server.url, GLB, tries="2").json()
        assert (refused["code"], refused["field"]) == ("invalid_parameter", "tries")
        assert list(server.state.store.folder.staging.iterdir()) == []
        first = post(server.url, GLB, tries="1")
        assert first.status_code == 202
        store, job_id = server.state.store, first.json()["job_id"]
        wait_until(lambda: store.get(job_id).status is JobStatus.FINISHED)
        again = httpx.post(f"{server.url}/jobs/{job_id}/retry", json={"tries": 2}, timeout=60)
        assert again.status_code == 422 and again.json()["field"] == "tries"


def test_another_mesh_under_the_same_key_is_another_request(
    tmp_path: Path, actionmesh: Settings
) -> None:
    with thread_server(tmp_path / "jobs", FinishesAtOnce(), actionmesh) as server:
        first = post(server.url, GLB, "key")
        assert post(server.url, GLB, "key").json() == first.json()
        other = glb(nodes=[{"mesh": 0, "scale": [2, 2, 2]}])
        assert post(server.url, other, "key").status_code == 422


def test_the_silhouette_pipeline_refuses_a_mesh(tmp_path: Path) -> None:
    with thread_server(tmp_path / "jobs", FinishesAtOnce()) as server:
        refused = post(server.url, GLB)
        assert refused.status_code == 422 and refused.json()["code"] == "mode_unavailable"
