"""Bodies while they arrive: the exact limit, chunks, invalid bytes, clients that disconnect."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import api.http_protocol
import api.request_body
from tests.api.bodies import BOUNDARY, MULTIPART, frames_zip, multipart, part
from tests.api.conftest import Serve
from tests.api.test_submissions import answer_of, refused, staged
from tests.servers import ThreadServer
from tests.waiting import wait_until

LIMIT = len(frames_zip())


def port_of(server: ThreadServer) -> int:
    return int(server.url.rpartition(":")[2])


# --- the limit


def test_the_size_limit_is_exact(serve: Serve) -> None:
    server = serve(max_upload_size=LIMIT)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        fits = multipart(part("mode", b"fast"), part("file", frames_zip(), "walk.zip"))
        assert client.post("/jobs", content=fits, headers=MULTIPART).status_code == 202
        one_more = multipart(part("file", frames_zip() + b"\0", "walk.zip"))
        body = refused(
            client.post("/jobs", content=one_more, headers=MULTIPART), 413, "upload_too_large"
        )
        assert body["max_bytes"] == LIMIT
    assert staged(server) == []


def test_a_declared_length_over_the_limit_is_refused_before_the_body(serve: Serve) -> None:
    server = serve(max_upload_size=1000)
    with socket.create_connection(("127.0.0.1", port_of(server)), 60) as peer:
        head = (
            f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {1000 + (1 << 20) + 1}\r\n"
        )
        head += f"Content-Type: {MULTIPART['Content-Type']}\r\nExpect: 100-continue\r\n\r\n"
        peer.sendall(head.encode())
        answer = answer_of(peer)
    assert answer.startswith(b"HTTP/1.1 413") and b'"max_bytes":1000' in answer


def test_a_chunked_body_is_counted_while_it_arrives(serve: Serve) -> None:
    server = serve(max_upload_size=100_000)

    def endless() -> Iterator[bytes]:
        yield part("file", b"", "x.mp4")[:-2]
        for _ in range(400):
            yield b"x" * 65_536

    with httpx.Client(base_url=server.url, timeout=30) as client:
        refused(client.post("/jobs", content=endless(), headers=MULTIPART), 413, "upload_too_large")
    assert staged(server) == []


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_pieces_of_any_size_make_the_same_file(client: httpx.Client, size: int) -> None:
    body = multipart(part("mode", b"fast"), part("file", frames_zip(), "walk.zip"))

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), size):
            yield body[at : at + size]

    response = client.post("/jobs", content=pieces(), headers=MULTIPART)
    assert response.status_code == 202


@pytest.mark.parametrize("value", ["-1", "x", "1" * 30])
def test_a_wrong_content_length_is_refused(quick: ThreadServer, value: str) -> None:
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        head = f"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {value}\r\n"
        peer.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode())
        assert peer.recv(65_536).startswith(b"HTTP/1.1 4")


# --- a part's own head


def one_part(disposition: bytes, content: bytes = b"fast") -> bytes:
    head = b"Content-Disposition: form-data; " + disposition + b"\r\n\r\n"
    return multipart(b"--" + BOUNDARY + b"\r\n" + head + content + b"\r\n", part("file", b"", ""))


@pytest.mark.parametrize(
    "disposition",
    [b'name="mode"; name="seed"', b'name="mode"; name="mode"', b"name=mode;name=seed",
     b'name="mode"; NAME="seed"', b'name="mode" ; name = "seed"', b'name="mode"x; name="seed"',
     b'name="mode"; filename="a"; filename="b"',
     b'name="mode"\r\nContent-Disposition: form-data; name="seed"'],
)  # fmt: skip
def test_a_part_that_names_a_parameter_twice_is_refused(
    client: httpx.Client, quick: ThreadServer, disposition: bytes
) -> None:
    response = client.post("/jobs", content=one_part(disposition), headers=MULTIPART)
    assert "two" in response.text or "twice" in response.text
    refused(response, 400, "malformed_request")
    assert staged(quick) == []


@pytest.mark.parametrize(
    "disposition",
    [b'name="mode"', b"name=mode", b'NAME="mode"', b'name="mode"; filename*=a; x="; name=y"',
     b'name="mode"; filename="a; name=b; name=c"', b'name="mode"; filename="a\\"; name=\\"b"'],
)  # fmt: skip
def test_a_part_with_one_name_is_taken(client: httpx.Client, disposition: bytes) -> None:
    response = client.post("/jobs", content=one_part(disposition), headers=MULTIPART)
    refused(response, 400, "missing_input")  # its only fault: there is no video


# --- junk

GOOD = multipart(part("mode", b"fast"), part("file", b"RIFF junk", "walk.avi"))
MALFORMED = [
    b"",
    b"junk",
    b"--" + BOUNDARY,
    b"--" + BOUNDARY + b"\r\n",
    GOOD[:-4],
    GOOD[:-30],
    multipart(b"--" + BOUNDARY + b"\r\n\r\nno head\r\n"),
    multipart(b"--" + BOUNDARY + b"\r\nContent-Disposition: form-data\r\n\r\nx\r\n"),
    multipart(b"--" + BOUNDARY + b"\r\nContent-Disposition\r\n\r\nx\r\n"),
    multipart(b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="\xff"\r\n\r\nx\r\n'),
    multipart(part("mode", b"\xff")),
    multipart(part("mode", b"x" * 65_537)),
    multipart(*[part("mode", b"fast")] * 2),
    multipart(*[part("mode", b"")] * 40),
    multipart(b"--" + BOUNDARY + b"\r\n" + b"X: y\r\n" * 40 + b"\r\nx\r\n"),
    multipart(b"--" + BOUNDARY + b"\r\nX: " + b"y" * 9000 + b"\r\n\r\nx\r\n"),
    multipart(part("x" * 4000, b"x")),
]


@pytest.mark.parametrize("body", MALFORMED, ids=range(len(MALFORMED)))
def test_an_invalid_body_is_a_client_error(
    client: httpx.Client, quick: ThreadServer, body: bytes
) -> None:
    response = client.post("/jobs", content=body, headers=MULTIPART)
    assert response.status_code in (400, 422), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert staged(quick) == []


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=4)), max_size=4))
def test_a_damaged_body_is_never_a_500(
    client: httpx.Client, quick: ThreadServer, wounds: list[tuple[int, bytes]]
) -> None:
    body = bytearray(GOOD)
    for at, scrap in wounds:
        body[at : at + len(scrap)] = scrap
    response = client.post("/jobs", content=bytes(body), headers=MULTIPART)
    assert response.status_code in (400, 413, 415, 422), response.text
    assert staged(quick) == []


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    ),
    st.sampled_from(["mode", "start", "fps", "max_frames", "seed", "formats", "blender_export",
                     "video_url", "webhook_url", "other"]),
)  # fmt: skip
def test_any_json_value_is_answered(client: httpx.Client, value: object, name: str) -> None:
    body = json.dumps({"video_url": "http://10.0.0.1/", name: value})
    headers = {"Content-Type": "application/json"}
    response = client.post("/jobs", content=body.encode(), headers=headers)
    assert response.status_code in (400, 422), response.text


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # https to an http port
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"POST /jobs HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_get_a_problem_document(quick: ThreadServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        peer.sendall(sent)
        head, _, body = _read_to_end(peer).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in head
    found = json.loads(body)
    assert (found["code"], found["status"]) == ("malformed_request", 400)
    assert f"x-request-id: {found['request_id']}".encode() in head


# --- clients that go away, or fall asleep


def test_a_client_that_disconnects_leaves_no_files(quick: ThreadServer) -> None:
    head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000\r\n"
    head += f"Content-Type: {MULTIPART['Content-Type']}\r\n\r\n"
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
            peer.sendall(head.encode() + part("file", b"x" * 300_000, "x.mp4"))
            wait_until(lambda: staged(quick))
    wait_until(lambda: not staged(quick))
    wait_until(lambda: quick.state.receiving == 0)
    wait_until(lambda: quick.reserved_places() == 0)


def test_a_body_that_stops_times_out(quick: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.request_body, "BODY_IDLE_S", 0.3)
    head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        peer.sendall(f"{head}Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode())
        peer.sendall(part("file", b"x", "x.mp4"))
        answer = answer_of(peer)
    assert answer.startswith(b"HTTP/1.1 408") and b'"code":"request_timeout"' in answer
    wait_until(lambda: not staged(quick))


def test_a_slow_body_times_out(quick: ThreadServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.request_body, "BODY_TOTAL_S", 0.5)
    head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        peer.sendall(f"{head}Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode())
        peer.sendall(part("file", b"", "x.mp4")[:-2])
        while not select.select([peer], [], [], 0.1)[0]:
            peer.sendall(b"-")
        assert peer.recv(65_536).startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("sent", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: local"])
def test_an_incomplete_request_times_out(
    quick: ThreadServer, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(api.http_protocol, "HEAD_S", 0.3)
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        peer.sendall(sent)
        assert _read_to_end(peer) == b""


def test_the_rest_of_a_refused_body_times_out(
    quick: ThreadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.http_protocol, "LEFTOVER_S", 0.3)
    with socket.create_connection(("127.0.0.1", port_of(quick)), 60) as peer:
        head = "POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n\r\n"
        peer.sendall(head.encode() + b"x")
        assert _read_to_end(peer).startswith(b"HTTP/1.1 404")


def _read_to_end(peer: socket.socket) -> bytes:
    """All that comes before the server closes the connection."""
    received = b""
    try:
        while more := peer.recv(65_536):
            received += more
    except ConnectionResetError:
        pass
    return received
