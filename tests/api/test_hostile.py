"""Hostile files, names and addresses sent to the API: only 4xx or 202, and no files are left.

The files are outside the project (TEST_MEDIA); the executor waits, so that no job is run here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.bodies import MULTIPART, multipart, part
from tests.api.test_submissions import staged
from tests.hostile_media import hostile_files
from tests.inline_executors import WaitsForPermission
from tests.servers import ThreadServer, quick_settings, thread_server
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def manifest(test_media: Path) -> dict[str, list[dict[str, Any]]]:
    loaded: dict[str, list[dict[str, Any]]] = json.loads(
        (test_media / "hostile" / "manifest.json").read_text()
    )
    return loaded


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    """Accepts every task and runs none."""
    gate = WaitsForPermission()
    settings = quick_settings(tmp_path_factory.mktemp("hostile") / "jobs", max_queue=1000)
    with thread_server(settings.jobs_dir, gate, settings) as running:
        yield running
        gate.permission.set()


def answered(response: httpx.Response, wanted: dict[str, Any], server: ThreadServer) -> None:
    """What must be true of every answer."""
    expect = wanted["expect"]
    if expect == "accept":
        assert response.status_code == 202, (wanted, response.text)
    elif expect == "reject":
        assert response.status_code in wanted["status"], (wanted, response.text)
    else:
        allowed = [202, *wanted.get("status", (400, 413, 415, 422))]
        assert response.status_code in allowed, (wanted, response.text)
    assert staged(server) == []
    if response.status_code != 202:
        body = response.json()
        assert body["code"] and isinstance(body["detail"], str)
        assert str(server.jobs_dir) not in response.text and "Traceback" not in response.text


def test_files(test_media: Path, waiting: ThreadServer) -> None:
    with httpx.Client(base_url=waiting.url, timeout=30) as client:
        for wanted in hostile_files(test_media):
            content = (test_media / "hostile" / wanted["file"]).read_bytes()
            response = client.post("/jobs", files={"file": (wanted["upload_name"], content)})
            answered(response, wanted, waiting)


def assert_holds_only_our_names(folder: Path) -> None:
    expected = {"input", "job.json", "attempt-1"}
    # job.json.part is there while the record is written
    wait_until(lambda: {path.name for path in folder.iterdir()} <= expected)


def test_names(
    manifest: dict[str, list[dict[str, Any]]], test_media: Path, waiting: ThreadServer
) -> None:
    with httpx.Client(base_url=waiting.url, timeout=30) as client:
        for wanted in manifest["filenames"]:
            content = (test_media / "hostile" / wanted["body"]).read_bytes()
            raw = wanted["upload_name"].encode("utf-8", "surrogateescape")
            quoted = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            body = multipart(part("file", content, "NAME").replace(b"NAME", quoted, 1))
            response = client.post("/jobs", content=body, headers=MULTIPART)
            answered(response, wanted, waiting)
            if response.status_code == 202:
                job_id = response.json()["job_id"]
                shown = client.get(f"/jobs/{job_id}").json()["input"]["filename"]
                assert shown.isprintable() and len(shown.encode()) <= 255
                assert_holds_only_our_names(waiting.jobs_dir / job_id)


def test_addresses(manifest: dict[str, list[dict[str, Any]]], waiting: ThreadServer) -> None:
    with httpx.Client(base_url=waiting.url, timeout=30) as client:
        for wanted in manifest["urls"]:
            answered(client.post("/jobs", json={"video_url": wanted["url"]}), wanted, waiting)
            answered(client.post("/jobs", data={"video_url": wanted["url"]}), wanted, waiting)
