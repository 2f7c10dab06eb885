"""The shipped nginx site at work: uploads, long polls, events, ranges, and files sent by nginx."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.bodies import frames_zip, submit
from tests.deploy.nginx import ACCEL_PREFIX, Nginx, nginx_before
from tests.servers import ProcessServer, process_server


@dataclass(frozen=True)
class Stack:
    """A server behind nginx."""

    server: ProcessServer
    nginx: Nginx


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with ExitStack() as running:
        server = running.enter_context(
            process_server(
                folder,
                PIPELINE="tests.pipelines:Sleeps",
                ACCEL_PREFIX=ACCEL_PREFIX,
                MAX_UPLOAD_SIZE=str(40 << 20),
            )
        )
        nginx = running.enter_context(nginx_before(server, folder / "nginx"))
        yield Stack(server, nginx)


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.nginx.url, trust_env=False, timeout=30.0) as client:
        yield client


@pytest.fixture(scope="module")
def job(stack: Stack) -> dict[str, Any]:
    """A job sent, polled and finished through nginx."""
    with httpx.Client(base_url=stack.nginx.url, trust_env=False, timeout=60.0) as client:
        address = f"/jobs/{submit(client)}"
        client.get(address, params={"wait": 55})
        return dict(client.get(address, params={"wait": 55}).json())  # a busy machine takes longer


def test_a_job_goes_through_and_nginx_itself_sends_its_files(
    client: httpx.Client, job: dict[str, Any]
) -> None:
    assert job["status"] == "finished"
    for file in job["files"]:
        response = client.get(f"/outputs/{job['job_id']}/{file['name']}")
        assert response.status_code == 200
        assert hashlib.sha256(response.content).hexdigest() == file["sha256"]
        assert response.headers["server"] == "nginx"
        assert "x-accel-redirect" not in response.headers
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert response.headers["x-request-id"]
        assert response.headers["content-disposition"]


def test_nginx_keeps_our_media_types(client: httpx.Client, job: dict[str, Any]) -> None:
    for name, media_type in (
        ("animated_mesh.glb", "model/gltf-binary"),
        ("preview.mp4", "video/mp4"),
        ("meshes.zip", "application/zip"),
    ):
        response = client.head(f"/outputs/{job['job_id']}/{name}")
        assert response.headers["content-type"] == media_type
        assert response.headers["accept-ranges"] == "bytes"


def test_ranges_and_resumed_downloads_work(client: httpx.Client, job: dict[str, Any]) -> None:
    address = f"/outputs/{job['job_id']}/meshes.zip"
    whole = client.get(address)
    part = client.get(address, headers={"Range": "bytes=100-299"})
    assert part.status_code == 206
    assert part.content == whole.content[100:300]
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
    resumed = client.get(
        address, headers={"Range": "bytes=100-", "If-Range": whole.headers["etag"]}
    )
    assert resumed.status_code == 206 and resumed.content == whole.content[100:]
    behind = client.get(address, headers={"Range": f"bytes={len(whole.content)}-"})
    assert behind.status_code == 416


FUTURE, LONG_AGO = "Fri, 31 Dec 2100 23:59:59 GMT", "Sun, 06 Nov 1994 08:49:37 GMT"
OTHER = '"other"'
TAG = "the file's own"
THE_SAME_AS_WITHOUT_NGINX: list[tuple[dict[str, str], int]] = [
    ({}, 200),
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": f"W/{TAG}"}, 304),
    ({"If-None-Match": "*"}, 304),
    ({"If-None-Match": OTHER}, 200),
    ({"If-None-Match": OTHER, "If-Modified-Since": FUTURE}, 200),
    ({"If-Match": TAG}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": f"W/{TAG}"}, 412),
    ({"If-Match": OTHER}, 412),
    ({"If-Unmodified-Since": FUTURE}, 200),
    ({"If-Unmodified-Since": LONG_AGO}, 412),
    ({"If-Modified-Since": FUTURE}, 304),
    ({"If-Modified-Since": LONG_AGO}, 200),
    ({"Range": "bytes=5-9"}, 206),
    ({"Range": "bytes=5-9,20-29"}, 200),
    ({"Range": "bytes=99999999-"}, 416),
    ({"Range": "bytes=5-9", "If-Range": TAG}, 206),
    ({"Range": "bytes=5-9", "If-Range": f"W/{TAG}"}, 200),
    ({"Range": "bytes=5-9", "If-Range": OTHER}, 200),
    ({"Range": "bytes=5-9", "If-Match": TAG}, 206),
    ({"Range": "bytes=5-9", "If-Match": OTHER}, 412),
    ({"Range": "bytes=5-9", "If-None-Match": OTHER}, 206),
    ({"Range": "bytes=5-9", "If-None-Match": TAG}, 304),
]


@pytest.mark.parametrize(("headers", "status"), THE_SAME_AS_WITHOUT_NGINX)
def test_conditions_and_ranges_know_the_files_sha256(
    client: httpx.Client, job: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    file = next(entry for entry in job["files"] if entry["name"] == "meshes.zip")
    address, tag = f"/outputs/{job['job_id']}/meshes.zip", f'"{file["sha256"]}"'
    sent = {name: value.replace(TAG, tag) for name, value in headers.items()}
    response = client.get(address, headers=sent)
    assert response.status_code == status
    if status < 400:
        assert response.headers.get_list("etag") == [tag]
    if status == 206:
        assert response.headers["content-range"] == f"bytes 5-9/{file['bytes']}"
    head = client.head(address, headers=sent)
    assert head.status_code == (200 if status in (206, 416) else status)
    if head.status_code == 200:
        assert head.headers.get_list("etag") == [tag]
        assert int(head.headers["content-length"]) == file["bytes"]


def test_the_time_of_a_file_is_the_same_with_and_without_nginx(
    client: httpx.Client, job: dict[str, Any]
) -> None:
    address = f"/outputs/{job['job_id']}/meshes.zip"
    time = client.get(address).headers["last-modified"]
    assert client.head(address).headers["last-modified"] == time  # the server answers a HEAD
    resumed = client.get(address, headers={"Range": "bytes=5-9", "If-Range": time})
    assert resumed.status_code == 206


def test_nginx_does_not_serve_the_files_directly(
    client: httpx.Client, job: dict[str, Any], stack: Stack
) -> None:
    for path in (
        f"{ACCEL_PREFIX}/{job['job_id']}/outputs/meshes.zip",
        f"{ACCEL_PREFIX}/{job['job_id']}/job.json",
        f"/outputs/{job['job_id']}/..%2fjob.json",
    ):
        assert client.get(path).status_code == 404
    assert "emerg" not in stack.nginx.error_log.read_text()


def test_events_arrive_while_the_job_runs(client: httpx.Client) -> None:
    job_id = submit(client)
    arrived: list[tuple[str, str]] = []
    with client.stream("GET", f"/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for line in response.iter_lines():
            if line.startswith("event: "):
                status = str(client.get(f"/jobs/{job_id}").json()["status"])
                arrived.append((line.removeprefix("event: "), status))
    assert arrived[-1] == ("done", "finished")
    assert ("progress", "running") in arrived  # held back, they would come when it has ended


def test_an_upload_larger_than_the_limit_gets_our_error(client: httpx.Client) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(45):
            yield bytes(1 << 20)

    headers = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": str(45 << 20)}
    try:
        response = client.post("/jobs", content=body(), headers=headers)
    except httpx.WriteError:
        return  # closed on us while we still sent: the answer was lost, the refusal was not
    assert response.status_code == 413
    assert response.json()["code"] == "upload_too_large"


def test_an_upload_of_many_megabytes_passes(client: httpx.Client) -> None:
    padded = frames_zip() + bytes(30 << 20)
    response = client.post("/jobs", files={"file": ("walk.zip", padded)})
    assert response.status_code in (202, 422), response.text  # read to its end, and looked into


def test_the_list_is_closed_behind_a_proxy(client: httpx.Client) -> None:
    assert client.get("/jobs").json()["code"] == "listing_disabled"


BARE_SITES = {
    "nothing but proxy_pass": "",
    "HTTP/1.1": "proxy_http_version 1.1;",
    "a local Host": "proxy_http_version 1.1; proxy_set_header Host localhost;",
    "WebSocket lines": "proxy_http_version 1.1; proxy_set_header Connection upgrade;",
    "its own Host": 'proxy_http_version 1.1; proxy_set_header Connection ""; '
    "proxy_set_header Host $http_host;",
}


@pytest.mark.parametrize("lines", BARE_SITES.values(), ids=BARE_SITES.keys())
def test_the_list_is_closed_behind_a_proxy_that_adds_no_header(
    server: ProcessServer, tmp_path: Path, lines: str
) -> None:
    """The server is on loopback and has no settings for a proxy, and nginx names no client."""
    assert httpx.get(f"{server.url}/jobs", timeout=60).status_code == 200
    site = f"location / {{ proxy_pass {server.url}; {lines} }}"
    with nginx_before(server, tmp_path / "nginx", site) as nginx:
        response = httpx.get(f"{nginx.url}/jobs", headers={"Host": "192.168.1.5"}, timeout=60)
    assert response.json()["code"] in ("listing_disabled", "bad_host")
