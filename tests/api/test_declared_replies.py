"""Every operation of /openapi.json answers with exactly the statuses and media types it declares.

Real servers are asked for each declared reply; what comes back is compared with the document.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest

import api.request_body
from tests.api.bodies import MULTIPART, ended, send, submit
from tests.api.conftest import Serve
from tests.api.test_status import FailsToStart
from tests.inline_executors import NAMES, FinishesAtOnce, WaitsForPermission
from tests.servers import ThreadServer
from tests.waiting import wait_until

Replies = dict[tuple[str, str], dict[str, set[str]]]
"""(method, path of the document) -> status -> media types."""


class WritesEveryType(FinishesAtOnce):
    """Its jobs have a file of each type that /outputs may send."""

    names = (
        *NAMES,
        "animated_mesh.usdz",
        "animated_mesh.npz",
        "masks.zip",
        "texture.jpg",
        "texture.png",
    )


class Asked:
    """Sends requests and notes what came back; `found` has the form of the document."""

    def __init__(self, paths: dict[str, Any]) -> None:
        self.found: Replies = defaultdict(lambda: defaultdict(set))
        # a path without parameters comes before one with parameters that matches, too
        self._paths = sorted(paths, key=lambda path: path.count("{"))

    def client(self, server: ThreadServer) -> httpx.Client:
        """A client whose every reply is noted."""
        hooks = {"response": [self._note]}
        return httpx.Client(base_url=server.url, timeout=60, event_hooks=hooks)

    def _note(self, response: httpx.Response) -> None:
        path = response.request.url.path
        template = next(
            known for known in self._paths if re.fullmatch(re.sub(r"{\w+}", "[^/]+", known), path)
        )
        sent = response.headers.get("content-type", "").partition(";")[0]
        operation = self.found[response.request.method.lower(), template]
        operation[str(response.status_code)] |= {sent} - {""}


def _declared(document: dict[str, Any]) -> Replies:
    return {
        (method, path): {
            status: set(reply.get("content", {}))
            for status, reply in operation["responses"].items()
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


@pytest.fixture
def document(client: httpx.Client) -> dict[str, Any]:
    """As the server sends it."""
    loaded: dict[str, Any] = client.get("/openapi.json").json()
    return loaded


def test_every_declared_reply_is_sent_and_no_other(
    document: dict[str, Any],
    quick: ThreadServer,
    serve: Serve,
    gate: WaitsForPermission,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(document["paths"])
    _ask_everywhere(asked, document, quick, serve(api_keys=("a-long-key",)))
    _ask_a_finished_job(asked, serve(WritesEveryType()))
    monkeypatch.setattr(api.request_body, "BODY_IDLE_S", 0.2)
    _ask_with_wrong_bodies(asked, quick)
    _ask_a_busy_server(asked, serve(gate, max_queue=1), gate)
    _ask_servers_that_lack_something(asked, document, serve)
    declared = _declared(document)
    for replies in declared.values():
        del replies["500"]  # needs a bug: tests/api/test_security.py has one
    del declared["get", "/client.py"]["404"]  # needs a server without this file
    assert set(asked.found) == set(declared)
    for operation, replies in declared.items():
        assert asked.found[operation] == replies, operation


def _addresses(document: dict[str, Any], job_id: str) -> Iterator[tuple[str, str]]:
    for path, operations in document["paths"].items():
        for method in operations:
            yield method, path.format(job_id=job_id, filename="mesh_000.glb")


def _ask_everywhere(
    asked: Asked, document: dict[str, Any], server: ThreadServer, keyed: ThreadServer
) -> None:
    """What any operation may be asked for, and the errors that do not depend on the operation."""
    with asked.client(server) as client, asked.client(keyed) as stranger:
        expired = submit(client)
        ended(client, expired)
        server.state.store.delete(expired, expired=True)
        for job_id in (expired, str(uuid4())):
            for method, path in _addresses(document, job_id):
                client.request(method, path)
                client.request(method, path, headers={"Host": "two words"})
                client.request(method, path, params={"unknown": "1"})
                stranger.request(method, path)
                with suppress(httpx.TransportError):  # it may be closed before all is sent
                    client.request(method, path, headers={"X-Long": "x" * 100_000})
                if method in ("post", "delete"):
                    client.request(method, path, headers={"Origin": "http://foreign.example"})


def _ask_a_finished_job(asked: Asked, server: ThreadServer) -> None:
    with asked.client(server) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        job_id = submit(client)
        job = ended(client, job_id)
        tag = client.get(f"/jobs/{job_id}").headers["etag"]
        client.get(f"/jobs/{job_id}", headers={"If-None-Match": tag})
        client.get(f"/jobs/{job_id}", params={"wait": "x"})
        client.get("/jobs", params={"limit": 0})
        client.get("/jobs", headers={"Forwarded": "for=192.0.2.1"})
        client.get(f"/jobs/{job_id}/events")
        client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "end"})
        for method, path in (
            ("GET", f"/jobs/{job_id}"), ("DELETE", f"/jobs/{job_id}"),
            ("GET", f"/outputs/{job_id}/mesh_000.glb"), ("GET", f"/outputs/{job_id}/meshes.zip"),
        ):  # fmt: skip
            client.request(method, path, headers={"If-Match": '"another"'})
        for file in job["files"]:
            path = f"/outputs/{job_id}/{file['name']}"
            client.get(path)
            client.get(path, headers={"Range": "bytes=0-3"})
            client.get(path, headers={"Range": "bytes=9999999-"})
            client.get(path, headers={"If-None-Match": "*"})
        for path in ("/", "/client.py"):
            client.get(path, headers={"If-None-Match": "*"})
        client.post(f"/jobs/{job_id}/cancel")
        client.post(f"/jobs/{job_id}/retry")
        client.delete(f"/jobs/{job_id}")


def _ask_with_wrong_bodies(asked: Asked, server: ThreadServer) -> None:
    def stops() -> Iterator[bytes]:
        yield b"{"
        time.sleep(1.0)

    with asked.client(server) as client:
        job_id = submit(client)
        ended(client, job_id)
        for path in ("/jobs", f"/jobs/{job_id}/retry"):
            client.post(path, json=[])
            client.post(path, json={"mod": "fast"})
            client.post(path, json={"mode": "x" * 70_000})
            client.post(path, content=b"x", headers={"Content-Type": "text/plain"})
            client.post(path, content=stops(), headers={"Content-Type": "application/json"})
        server.state.keys_in_progress.add(hashlib.sha256(b"busy").hexdigest())
        client.post("/jobs", headers={**MULTIPART, "Idempotency-Key": "busy"})


def _ask_a_busy_server(asked: Asked, server: ThreadServer, gate: WaitsForPermission) -> None:
    with asked.client(server) as client:
        finished = submit(client)
        assert gate.started.wait(60)
        gate.permission.set()
        ended(client, finished)
        gate.permission.clear()
        gate.started.clear()
        running = submit(client)
        assert gate.started.wait(60)
        for path in ("mesh_000.glb", "meshes.zip"):
            client.get(f"/outputs/{running}/{path}")
        client.post(f"/jobs/{running}/retry")
        queued = submit(client)  # in the one place of the queue
        send(client)
        client.post(f"/jobs/{finished}/retry")
        client.post(f"/jobs/{running}/cancel")
        client.post(f"/jobs/{queued}/cancel")
        gate.permission.set()


def _ask_servers_that_lack_something(asked: Asked, document: dict[str, Any], serve: Serve) -> None:
    with asked.client(serve(FailsToStart())) as client:
        wait_until(lambda: client.get("/health").status_code == 503)
    server = serve()
    with asked.client(server) as client:
        job_id = submit(client)
        ended(client, job_id)
        full = replace(server.state.settings, min_free_gb=1e9)
        server.state.settings = full
        client.get("/ready")
        send(client)
        client.post(f"/jobs/{job_id}/retry")
        server.state.store._ended._whole.clear()  # as after many other jobs: only on disk
        away = server.jobs_dir.rename(server.jobs_dir.with_name("away"))
        for any_id in (job_id, str(uuid4())):
            for method, path in _addresses(document, any_id):
                client.request(method, path)
        away.rename(server.jobs_dir)
