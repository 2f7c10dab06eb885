"""Bytes that are no body: heads, chunk sizes, trailers, pipelines. They are counted, too."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import api.http_protocol
from api.http_protocol import HEAD_FIELDS, QUEUED_REQUESTS
from api.unanswered import HEAD_BYTES
from tests.api.bodies import BOUNDARY, MULTIPART, frames_zip, multipart, part
from tests.api.conftest import Serve
from tests.inline_executors import WaitsForPermission
from tests.servers import ProcessServer, ThreadServer, process_server
from tests.waiting import wait_until

MB = 1 << 20
GROWTH_MB = 60
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def exchange(url: str, *sent: bytes, timeout_s: float = 30.0) -> bytes:
    """All that the server answers until it closes; it may do so before all is sent."""
    host, port = url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout_s) as peer:
        try:
            for piece in sent:
                peer.sendall(piece)
        except ConnectionError:
            pass
        try:
            while more := peer.recv(65_536):
                received += more
        except ConnectionResetError:
            pass
    return received


def statuses(received: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def refused(received: bytes, status: int, code: str) -> None:
    """One reply: a problem document, its request id in a header, and the end of the connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    found = json.loads(body)
    assert (found["status"], found["code"]) == (status, code)
    lines = head.lower().split(b"\r\n")
    assert lines[0].startswith(b"http/1.1 %d " % status)
    assert b"x-request-id: " + found["request_id"].encode() in lines
    assert b"connection: close" in lines and b"content-type: application/problem+json" in lines


# --- never-ending kinds


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    with process_server(tmp_path_factory.mktemp("process")) as running:
        yield running


def peak_mb(server: ProcessServer) -> float:
    """The largest resident memory that the server ever had, in MB of 2**20 bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


ENDLESS = {
    "many fields": (GET, b"a:b\r\n", 431),
    "one field": (GET + b"X-A: ", b"a", 431),
    "a field's name": (GET, b"a", 431),
    "blanks before a value": (GET + b"X-A:", b" ", 431),
    "a method": (b"", b"G", 400),
    "an address": (b"GET /", b"a", 431),
    "a query": (b"GET /jobs?", b"a&", 431),
    "empty lines": (b"", b"\r\n", 431),
    "a chunk's extension": (GET + CHUNKED + b"5;", b"a=b;", 431),
    "a chunk's size": (GET + CHUNKED, b"0", 431),
    "many extensions": (GET + CHUNKED, b"1;" + b"a" * 8000 + b"\r\nx\r\n", 400),
    "tiny chunks": (GET + CHUNKED, b"1\r\nx\r\n", 400),
    "many trailers": (GET + CHUNKED + b"0\r\n", b"a:b\r\n", 431),
    "one trailer": (GET + CHUNKED + b"0\r\nX: ", b"a", 431),
    "requests": (b"", GET + b"\r\n", 400),
    "short requests": (b"", b"GET / HTTP/1.0\r\n\r\n", 400),
    "a body where none belongs": (GET + b"Content-Length: 999999999999\r\n\r\n", b"a", 413),
    "after the last request": (GET + b"Connection: close\r\n\r\n", b"GET / HTTP/1.1\r\n", 431),
    "another protocol": (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"\x81", 200),
    "http/2": (GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n", b"\0", 200),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_refused_and_takes_no_memory(process: ProcessServer, kind: str) -> None:
    beginning, piece, status = ENDLESS[kind]
    before = peak_mb(process)
    received = exchange(process.url, beginning, *[piece * (MB // len(piece))] * 24)
    # a request that was complete before may have been answered first
    assert set(statuses(received)) <= {200, status} and received
    assert peak_mb(process) - before <= GROWTH_MB
    assert httpx.get(f"{process.url}/health").status_code == 200


# --- exact limits


def _head(size: int) -> bytes:
    """A whole head of `size` bytes."""
    start = GET + b"Connection: close\r\nX: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [HEAD_BYTES, 1000, 999_999])
def test_a_head_may_have_64_kb(quick: ThreadServer, step: int) -> None:
    fits, too_long = _head(HEAD_BYTES), _head(HEAD_BYTES + 1)
    pieces = [fits[at : at + step] for at in range(0, len(fits), step)]
    assert statuses(exchange(quick.url, *pieces)) == [200]
    pieces = [too_long[at : at + step] for at in range(0, len(too_long), step)]
    refused(exchange(quick.url, *pieces), 431, "head_too_large")


def test_a_head_may_have_100_fields(quick: ThreadServer) -> None:
    fields = [b"X-%d: y\r\n" % k for k in range(HEAD_FIELDS - 2)]
    fits = GET + b"Connection: close\r\n" + b"".join(fields)
    assert statuses(exchange(quick.url, fits + b"\r\n")) == [200]
    refused(exchange(quick.url, fits + b"X: y\r\n\r\n"), 431, "head_too_large")


def test_each_head_of_a_connection_is_counted_by_itself(quick: ThreadServer) -> None:
    """Also behind a body; six times 15 KB are more than one head may have."""
    with httpx.Client(base_url=quick.url) as client:
        for _ in range(6):
            sent = {"X-A": "a" * 15_000, **{f"X-{k}": "" for k in range(40)}}
            assert client.post("/nope", content=b"x" * 99_999, headers=sent).status_code == 404


def test_small_chunks_and_short_trailers_are_fine(quick: ThreadServer) -> None:
    body = multipart(part("file", frames_zip(24, 48), "walk.zip"))
    chunks = b"".join(b"1;some=extension\r\n%c\r\n" % byte for byte in body[:5000])
    chunks += b"%x\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(body) - 5000, body[5000:])
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += b"Content-Type: multipart/form-data; boundary=%b\r\n" % BOUNDARY
    assert statuses(exchange(quick.url, head + CHUNKED + chunks)) == [202]


def test_fields_of_trailers_are_not_taken_for_headers(serve: Serve) -> None:
    server = serve(api_keys=("open-sesame",))
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + CHUNKED
    received = exchange(server.url, head + b"0\r\nX-API-Key: open-sesame\r\n\r\n")
    assert statuses(received) == [401]


# --- more than one request on a connection


def test_a_reply_that_is_due_comes_before_the_end_for_invalid_bytes(quick: ThreadServer) -> None:
    received = exchange(quick.url, GET + b"\r\n" + b"\0\0no http\r\n\r\n")
    assert statuses(received) == [200] and received.count(b"HTTP/1.1") == 1


def test_some_requests_may_be_sent_before_their_replies(serve: Serve) -> None:
    server = serve(WaitsForPermission())
    last = GET + b"Connection: close\r\n\r\n"
    few = exchange(server.url, (GET + b"\r\n") * QUEUED_REQUESTS + last)
    assert statuses(few) == [200] * (QUEUED_REQUESTS + 1)
    many = exchange(server.url, (GET + b"\r\n") * (QUEUED_REQUESTS + 9) + last)
    assert statuses(many) == [200] * (QUEUED_REQUESTS + 1)


def test_the_requests_that_wait_have_a_common_limit(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    first = _answered_after_a_second(server)
    post = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n"
    assert statuses(exchange(server.url, first + post + b"a" * 99_999)) == [200]
    gate.permission.set()


def _answered_after_a_second(server: ThreadServer) -> bytes:
    """A request that waits for a job which does not end."""
    files = {"file": ("walk.zip", frames_zip())}
    job_id = httpx.post(f"{server.url}/jobs", files=files).json()["job_id"]
    return f"GET /jobs/{job_id}?wait=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest.mark.parametrize("sent", [b"PRI * HTTP/2.0\r\n\r\n", b"PRI /health HTTP/1.1\r\n\r\n"])
def test_the_beginning_of_http_2_is_refused_at_once(quick: ThreadServer, sent: bytes) -> None:
    refused(exchange(quick.url, sent), 400, "malformed_request")


def test_http_1_0_knows_no_interim_replies(quick: ThreadServer) -> None:
    head = b"POST /jobs HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\n"
    head += b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    assert statuses(exchange(quick.url, head + b"{}")) == [400]


def test_a_refused_body_that_waits_for_100_continue_causes_no_error(
    process: ProcessServer,
) -> None:
    """The route asks for the body only after the connection took its last bytes."""
    head = GET.replace(b"health", b"client.py") + b"Expect: 100-continue\r\n" + CHUNKED
    refused(exchange(process.url, head + b" 5\r\n12345\r\n"), 400, "malformed_request")
    assert httpx.get(f"{process.url}/health").status_code == 200
    assert "Traceback" not in process.log.read_text()


# --- connections that end


def test_a_refused_upload_that_is_not_kept_alive_gets_its_reply(quick: ThreadServer) -> None:
    """A client that sends all before it reads: closing at once would reset its connection."""
    for start in (b"POST /nope HTTP/1.0\r\n", b"POST /nope HTTP/1.1\r\nConnection: close\r\n"):
        head = start + b"Host: localhost\r\nContent-Length: %d\r\n\r\n" % (20 * MB)
        with socket.create_connection(_address(quick), 30) as peer:
            peer.sendall(head)
            assert peer.recv(1, socket.MSG_PEEK)
            for _ in range(20):
                peer.sendall(bytes(MB))
            assert peer.recv(65_536).startswith(b"HTTP/1.1 404")


def test_other_protocols_are_answered_and_closed(quick: ThreadServer) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    received = exchange(quick.url, GET + upgrade + key)
    assert statuses(received) == [200] and b"connection: close" in received
    assert statuses(exchange(quick.url, b"CONNECT localhost:1 HTTP/1.1\r\n\r\n")) == [400]


@pytest.mark.parametrize(
    ("length", "body"),
    [
        (b"Content-Length: 16", b'{"mod": "fast" }'),
        (b"Transfer-Encoding: chunked", b'8\r\n{"mod": \r\n9\r\n"fast" } \r\n0\r\n\r\n'),
    ],
)
@pytest.mark.parametrize("after", [b"", GET, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_a_body_that_comes_with_an_offer_of_http2_is_read(
    quick: ThreadServer, length: bytes, body: bytes, after: bytes
) -> None:
    """As curl --http2 and Java's HttpClient send it."""
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" + length + b"\r\n\r\n"
    for cut in (len(head) + len(body), len(head), len(head) + 3, 20):
        whole = head + body + after
        received = exchange(quick.url, whole[:cut], whole[cut:])
        assert statuses(received) == [422] and b'"field":"mod"' in received
        assert b"connection: close" in received


def test_a_connection_that_is_idle_after_a_refused_body_is_closed(
    quick: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.http_protocol, "HEAD_S", 0.3)
    with socket.create_connection(_address(quick), 20) as peer:
        peer.sendall(b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
        assert statuses(peer.recv(65_536)) == [404]
        peer.sendall(b"123456789")
        assert peer.recv(1) == b""


def test_empty_lines_do_not_keep_a_connection_open(
    quick: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.http_protocol, "HEAD_S", 0.3)
    with socket.create_connection(_address(quick), 20) as peer:
        peer.sendall(GET + b"\r\n")
        assert statuses(peer.recv(65_536)) == [200]
        peer.sendall(b"\r\n")
        assert peer.recv(1) == b""


def _address(server: ThreadServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.url.rpartition(":")[2])


def test_an_incomplete_request_does_not_cost_the_reply_before_it(
    serve: Serve, gate: WaitsForPermission, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(gate)
    first = _answered_after_a_second(server)
    monkeypatch.setattr(api.http_protocol, "HEAD_S", 0.3)
    assert statuses(exchange(server.url, first + b"GET /hea")) == [200]
    gate.permission.set()


def test_a_fault_in_a_body_is_answered_in_its_place(quick: ThreadServer) -> None:
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Type: {MULTIPART['Content-Type']}\r\n".encode() + CHUNKED
    received = exchange(quick.url, head + b"5\r\n--a-b\r\n", b"no size\r\n")
    refused(received, 400, "malformed_request")
    wait_until(lambda: quick.state.receiving == 0)
