"""Many connections at once: limits of what they hold together; nothing of a lost one is left."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

import api.outputs
import api.unanswered
from api.unanswered import CROWDED_BYTES
from tests.api.bodies import frames_zip
from tests.api.conftest import Serve
from tests.api.test_http_protocol import GET, GROWTH_MB, exchange, peak_mb, refused, statuses
from tests.inline_executors import WaitsForPermission
from tests.servers import ThreadServer, process_server
from tests.waiting import wait_until


def connected(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 30)


def followed(server: ThreadServer) -> bytes:
    """The beginning of a head that asks for the events of a new job, which has no last one."""
    files = {"file": ("walk.zip", frames_zip())}
    job_id = httpx.post(f"{server.url}/jobs", files=files).json()["job_id"]
    return f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n".encode()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_thousand_unfinished_heads_take_no_memory(tmp_path: Path) -> None:
    with process_server(tmp_path) as process, ExitStack() as opened:
        before = peak_mb(process)
        peers = [opened.enter_context(connected(process.url)) for _ in range(1000)]
        for peer in peers:
            peer.sendall(GET + b"X: " + b"a" * 60_000)
        assert httpx.get(f"{process.url}/health", timeout=30).status_code == 200
        assert peak_mb(process) - before <= GROWTH_MB


def test_what_all_connections_hold_is_limited(
    serve: Serve, gate: WaitsForPermission, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Heads are held until their replies are sent, here for as long as the job runs."""
    server = serve(gate)
    monkeypatch.setattr(api.unanswered, "ALL_HELD_BYTES", 100_000)
    events = followed(server)
    long = GET + b"X: " + b"a" * CROWDED_BYTES + b"\r\nConnection: close\r\n\r\n"
    with ExitStack() as opened:
        for peer in [opened.enter_context(connected(server.url)) for _ in range(2)]:
            peer.sendall(events + b"X: " + b"a" * 60_000 + b"\r\n\r\n")
            assert statuses(peer.recv(65_536)) == [200]
        answer = exchange(server.url, long)
        refused(answer, 431, "head_too_large")
        assert b'"max_bytes":8192' in answer
        assert statuses(exchange(server.url, GET + b"Connection: close\r\n\r\n")) == [200]
    wait_until(lambda: statuses(exchange(server.url, long)) == [200])


def test_too_many_bodies_that_nobody_reads_yet_are_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    monkeypatch.setattr(api.unanswered, "ALL_BODIES_BYTES", 20_000)
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Connection: close\r\nContent-Length: %d\r\n\r\n"
    small, large = b"{}".ljust(CROWDED_BYTES // 2), b"{}".ljust(60_000)
    assert statuses(exchange(server.url, head % len(small) + small)) == [400]
    answer = exchange(server.url, head % len(large) + large)
    refused(answer, 503, "too_many_uploads")
    assert b"\r\nretry-after: 5\r\n" in answer.lower()
    assert statuses(exchange(server.url, head % len(small) + small)) == [400]


def test_every_request_of_a_lost_connection_ends(serve: Serve, gate: WaitsForPermission) -> None:
    """Also the first one, while others wait for their turn behind it."""
    server = serve(gate)
    events = followed(server)
    for behind in (b"", GET + b"\r\n", (GET + b"\r\n") * 8, GET[:20]):
        with connected(server.url) as peer:
            peer.sendall(events + b"\r\n" + behind)
            assert statuses(peer.recv(65_536)) == [200]
            wait_until(lambda: bool(server.state.changes.watchers))
        wait_until(lambda: not server.state.changes.watchers)


def test_a_file_is_sent_whole_in_small_reads(
    quick: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.outputs, "ALL_READS_BYTES", 0)
    monkeypatch.setattr(api.outputs, "SMALL_READ_BYTES", 7)
    with httpx.Client(base_url=quick.url, timeout=30) as client:
        files = {"file": ("walk.zip", frames_zip())}
        job_id = client.post("/jobs", files=files).json()["job_id"]
        state = client.get(f"/jobs/{job_id}", params={"wait": 30}).json()
        for file in state["files"]:
            assert len(client.get(f"/outputs/{job_id}/{file['name']}").content) == file["bytes"]
