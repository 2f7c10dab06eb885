"""The files of a job: exactly the listed names, ranges, tags, nothing outside the folder."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from job.task import Progress, Task
from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused
from tests.inline_executors import (
    NAMES,
    Events,
    FindsNoSubject,
    FinishesAtOnce,
    WaitsForPermission,
)
from tests.servers import ThreadServer

NAME = "mesh_001.glb"
CONTENT = f"{NAME} of attempt 1\n".encode() * 40
SIZE = len(CONTENT)
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'


@pytest.fixture(scope="module")
def job(quick: ThreadServer) -> dict[str, Any]:
    """A finished job."""
    with httpx.Client(base_url=quick.url, timeout=60) as client:
        return ended(client, submit(client))


@pytest.fixture
def address(job: dict[str, Any]) -> str:
    return f"/outputs/{job['job_id']}/{NAME}"


def test_every_listed_file_can_be_downloaded(client: httpx.Client, job: dict[str, Any]) -> None:
    assert job["files"]
    for file in job["files"]:
        response = client.get(f"/outputs/{job['job_id']}/{file['name']}")
        assert response.status_code == 200
        assert len(response.content) == file["bytes"] == int(response.headers["content-length"])
        assert hashlib.sha256(response.content).hexdigest() == file["sha256"]
        assert response.headers["etag"] == f'"{file["sha256"]}"'
        assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "media_type", "disposition"),
    [
        ("mesh_000.glb", "model/gltf-binary", "inline"),
        ("preview.mp4", "video/mp4", "inline"),
        ("poster.webp", "image/webp", "inline"),
        ("meshes.zip", "application/zip", 'attachment; filename="meshes_{id8}.zip"'),
    ],
)
def test_types_and_names(
    client: httpx.Client, job: dict[str, Any], name: str, media_type: str, disposition: str
) -> None:
    headers = client.get(f"/outputs/{job['job_id']}/{name}").headers
    assert headers["content-type"] == media_type
    assert headers["content-disposition"] == disposition.format(id8=job["job_id"][:8])


def test_head_is_get_without_the_body(client: httpx.Client, address: str) -> None:
    head, get = client.head(address), client.get(address)
    assert head.status_code == 200 and head.content == b""
    for name in ("content-length", "content-type", "etag", "accept-ranges", "cache-control"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-9", 0, 9),
        ("bytes=10-", 10, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
        (f"bytes=5-{SIZE * 9}", 5, SIZE - 1),
        (f"bytes=-{SIZE * 9}", 0, SIZE - 1),
        (f"bytes=0-{SIZE - 1}", 0, SIZE - 1),
        ("bytes=0-" + "9" * 400, 0, SIZE - 1),
        ("bytes=-" + "9" * 400, 0, SIZE - 1),
        ("Bytes=" + "0" * 30 + "1-2", 1, 2),
    ],
)
def test_a_range_is_206(
    client: httpx.Client, address: str, asked: str, first: int, last: int
) -> None:
    response = client.get(address, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == CONTENT[first : last + 1]
    assert response.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    head = client.head(address, headers={"Range": asked})  # RFC 9110, 14.2: ranges are for GET
    assert (head.status_code, int(head.headers["content-length"])) == (200, SIZE)
    assert "content-range" not in head.headers


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,4-5", "bytes=", "bytes=-", "bytes=9-5", "bytes=a-b", "lines=0-1", "bytes 0-1",
     "bytes=" + ",".join(["0-1"] * 500), "bytes=1e3-", "bytes= 0-1",
     "bytes=" + " " * 60_000 + "x", "bytes=1" + " " * 60_000 + "x", "bytes=-" + " " * 60_000 + "x"],
)  # fmt: skip
def test_an_unclear_range_gets_the_whole_file(
    client: httpx.Client, address: str, asked: str
) -> None:
    response = client.get(address, headers={"Range": asked}, timeout=5)
    assert (response.status_code, response.content) == (200, CONTENT)


@pytest.mark.parametrize(
    "asked",
    [f"bytes={SIZE}-", "bytes=-0", f"bytes={SIZE * 2}-{SIZE * 3}", "bytes=" + "9" * 400 + "-"],
)
def test_a_range_after_the_end_is_416(client: httpx.Client, address: str, asked: str) -> None:
    response = client.get(address, headers={"Range": asked})
    assert refused(response, 416, "range_not_satisfiable")["bytes"] == SIZE
    assert response.headers["content-range"] == f"bytes */{SIZE}"


def test_if_range_prevents_mixing_two_files(client: httpx.Client, address: str) -> None:
    same = client.get(address, headers={"Range": "bytes=0-3", "If-Range": TAG})
    other = client.get(address, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    weak = client.get(address, headers={"Range": "bytes=0-3", "If-Range": f"W/{TAG}"})
    assert (same.status_code, other.status_code, weak.status_code) == (206, 200, 200)


@pytest.mark.parametrize("tags", [TAG, f"W/{TAG}", f'"x", {TAG}', "*"])
def test_a_known_tag_is_304(client: httpx.Client, address: str, tags: str) -> None:
    response = client.get(address, headers={"If-None-Match": tags})
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == TAG


@pytest.mark.parametrize(
    "name",
    ["nothing.glb", "result.json", "job.json", "input", "..%2finput", "%2e%2e/input",
     "..%2f..%2f..%2fetc%2fpasswd", "mesh_001.glb%00", ".", "MESH_001.GLB", "x" * 3000],
)  # fmt: skip
def test_other_names_are_404(client: httpx.Client, job: dict[str, Any], name: str) -> None:
    response = client.get(f"/outputs/{job['job_id']}/{name}")
    assert response.status_code == 404
    assert response.json()["code"] in ("file_not_found", "not_found")
    assert "/tmp" not in response.text


def test_a_link_is_not_followed(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = ended(client, submit(client))["job_id"]
        secret = tmp_path / "secret"
        secret.write_text("secret")
        path = server.jobs_dir / job_id / "outputs" / NAME
        path.unlink()
        refused(client.get(f"/outputs/{job_id}/{NAME}"), 404, "file_not_found")
        path.symlink_to(secret)
        refused(client.get(f"/outputs/{job_id}/{NAME}"), 404, "file_not_found")
        path.unlink()
        path.mkdir()
        refused(client.get(f"/outputs/{job_id}/{NAME}"), 404, "file_not_found")


EARLY = ("subject.webp", "masks.zip", "anchor.glb")


class ShowsEarlyFiles(WaitsForPermission):
    """Writes the early files, then waits."""

    def attempt(self, task: Task) -> Events:
        """Its progress names them, as a child's does; another file is not complete."""
        task.workspace.mkdir()
        for name in (*EARLY, NAME):
            (task.workspace / name).write_bytes(f"early {name}".encode())
        yield Progress("shape", 1, 1, 0.4, "The shape is there", EARLY)
        self.started.set()
        while not self.permission.is_set():
            yield None
        shutil.rmtree(task.workspace)
        yield from super().attempt(task)


@pytest.fixture
def shows() -> Iterator[ShowsEarlyFiles]:
    executor = ShowsEarlyFiles()
    yield executor
    executor.permission.set()


def test_a_running_job_has_only_its_ready_files(serve: Serve, shows: ShowsEarlyFiles) -> None:
    server = serve(shows)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = submit(client)
        assert shows.started.wait(60)
        job = client.get(f"/jobs/{job_id}").json()
        preview = job["preview_mesh"]
        assert preview == f"/outputs/{job_id}/anchor.glb" and job["ready"] == list(EARLY)
        for name in EARLY:
            response = client.get(f"/outputs/{job_id}/{name}")
            assert (response.status_code, response.content) == (200, f"early {name}".encode())
            assert response.headers["cache-control"] == "no-store"
        body = refused(client.get(f"/outputs/{job_id}/{NAME}"), 409, "job_not_finished")
        assert body["job_status"] == "running"
        folder = server.jobs_dir / job_id  # as between the promotion and the word "finished"
        (folder / "attempt-1").rename(folder / "outputs")
        assert client.get(preview).content == b"early anchor.glb"
        (folder / "outputs").rename(folder / "attempt-1")
        shows.permission.set()
        ended(client, job_id)
        refused(client.get(preview), 404, "file_not_found")


def test_a_failed_job_has_no_files(serve: Serve) -> None:
    with httpx.Client(base_url=serve(FindsNoSubject()).url, timeout=60) as client:
        job_id = ended(client, submit(client))["job_id"]
        problem = refused(client.get(f"/outputs/{job_id}/meshes.zip"), 409, "job_not_finished")
        assert "failed" in problem["detail"] and "retry" in problem["hint"]


def test_a_download_continues_after_its_job_is_deleted(
    quick: ThreadServer, client: httpx.Client
) -> None:
    job_id = ended(client, submit(client))["job_id"]
    with client.stream("GET", f"/outputs/{job_id}/{NAME}") as response:
        quick.state.worker.delete(job_id)
        assert response.read() == CONTENT


def test_a_proxy_can_send_the_files(serve: Serve) -> None:
    with httpx.Client(base_url=serve(accel_prefix="/protected").url, timeout=60) as client:
        job_id = ended(client, submit(client))["job_id"]
        response = client.get(f"/outputs/{job_id}/meshes.zip")
    assert response.headers["x-accel-redirect"] == f"/protected/{job_id}/outputs/meshes.zip"
    assert response.content == b"" and response.headers["content-type"] == "application/zip"


class WritesOptionalFiles(FinishesAtOnce):
    """Its jobs have a skinned mesh in three formats, and no compact one."""

    names = (*NAMES, "skinned_mesh.glb", "skinned_mesh.fbx", "skinned_mesh.usdz",
             "animated_mesh_texture.png")  # fmt: skip


def test_optional_files_have_keys_and_those_asked_for_are_null_if_missing(
    serve: Serve, job: dict[str, Any]
) -> None:
    assert not {"skinned_mesh", "compact_mesh"} & set(job["outputs"])
    with httpx.Client(base_url=serve(WritesOptionalFiles()).url, timeout=60) as client:
        outputs = ended(client, submit(client, formats="skinned,compact,fbx"))["outputs"]
    for key, name in (("mesh", "mesh.glb"), ("fbx", "mesh.fbx"), ("usdz", "mesh.usdz")):
        assert outputs[f"skinned_{key}"].endswith(f"/skinned_{name}")
    assert outputs["abc_texture"].endswith("/animated_mesh_texture.png")
    assert outputs["compact_mesh"] is None and "fbx" not in outputs
