"""Who gets one of the MAX_UPLOADS places: slow bodies, and peers that want all of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from starlette.requests import Request

import api.request_body
import api.upload_places
from api.request_body import PIECE_BYTES, _take_by_turns
from api.upload_places import peer_of
from tests.api.bodies import MULTIPART, part, send
from tests.api.conftest import Serve
from tests.api.test_submissions import answer_of, refused, staged
from tests.servers import ThreadServer
from tests.waiting import wait_until


@contextmanager
def unfinished(
    server: ThreadServer, count: int, content: bytes = b"x", peer: str = "127.0.0.1"
) -> Iterator[list[socket.socket]]:
    """Uploads that have a place and send no more."""
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    head += f"Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode()
    address = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    with ExitStack() as opened:
        peers = []
        for _ in range(count):
            before = len(staged(server))
            sender = socket.create_connection(address, 60, source_address=(peer, 0))
            peers.append(opened.enter_context(sender))
            sender.sendall(head + part("file", content, "walk.zip")[:-2])
            wait_until(lambda before=before: len(staged(server)) > before)  # type: ignore[misc]
        yield peers
    wait_until(lambda: server.state.receiving == 0)


def status_of(server: ThreadServer, peer: str = "127.0.0.1") -> int:
    """Of one normal upload from this address."""
    transport = httpx.HTTPTransport(local_address=peer)
    with httpx.Client(base_url=server.url, transport=transport, timeout=60) as client:
        return send(client).status_code


def answer_to_a_slow_body(peer: socket.socket) -> bytes:
    """What comes while ten bytes a second are sent."""
    peer.settimeout(0.1)
    answer = b""
    while not answer.endswith(b"}"):
        try:
            peer.sendall(b"x")
            answer += peer.recv(65_536)
        except TimeoutError:
            pass
    return answer


# --- slow bodies


def test_a_slow_body_is_ended_although_it_never_stops(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.request_body, "BODY_IDLE_S", 1.0)
    server = serve()
    with unfinished(server, 1) as (peer,):
        answer = answer_to_a_slow_body(peer)
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"upload_too_slow"' in answer
    assert b'"min_bytes_per_second":16384' in answer


def test_without_a_minimum_rate_a_slow_body_may_go_on(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.request_body, "BODY_IDLE_S", 1.0)
    monkeypatch.setattr(api.request_body, "BODY_TOTAL_S", 3.0)
    server = serve(min_upload_rate=0)
    with unfinished(server, 1) as (peer,):
        answer = answer_to_a_slow_body(peer)
    assert b'"code":"request_timeout"' in answer  # it took too long in all


def test_slow_uploads_in_all_places_give_way_to_others(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.upload_places, "BEHIND_S", 0.3)
    monkeypatch.setattr(api.request_body, "BODY_IDLE_S", 900.0)
    server = serve()
    with unfinished(server, 8) as slow:
        wait_until(lambda: status_of(server) == 202)
        answer = answer_of(slow[0])
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"upload_too_slow"' in answer
    assert staged(server) == []


def test_uploads_that_are_on_time_keep_their_places(serve: Serve) -> None:
    server = serve(max_uploads=2)
    with unfinished(server, 2), httpx.Client(base_url=server.url, timeout=60) as client:
        body = refused(send(client), 503, "too_many_uploads")
        assert body["max_uploads"] == 2
        assert server.state.receiving == 2


# --- peers


def test_a_peer_gets_half_of_the_places_while_another_one_waits(serve: Serve) -> None:
    """127.0.0.2 holds all four; once 127.0.0.3 was refused, it gets the next free ones."""
    server = serve(max_uploads=4, min_upload_rate=0)
    many, other = "127.0.0.2", "127.0.0.3"
    with unfinished(server, 4, peer=many) as peers:
        assert status_of(server, other) == 503
        for peer in peers[:2]:
            peer.close()
        wait_until(lambda: server.state.receiving == 2)
        assert status_of(server, many) == 503
        assert status_of(server, other) == 202


def test_a_peer_alone_may_have_all_places(serve: Serve) -> None:
    """Several users behind one proxy are one peer."""
    server = serve(max_uploads=4)
    with unfinished(server, 3):
        assert status_of(server) == 202


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("a name", "a name"),
        (None, ""),
    ],
)
def test_a_peer_is_an_address_or_an_ipv6_network(host: str | None, peer: str) -> None:
    client = None if host is None else (host, 1)
    assert peer_of(Request({"type": "http", "client": client, "headers": []})) == peer


# --- bodies that are slow to parse


def test_a_body_that_is_slow_to_parse_is_parsed_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two such bodies and everything else, each gets its turn."""
    monkeypatch.setattr(api.request_body, "TURN_S", 0.0)
    order: list[str] = []

    async def serve_others() -> None:
        for _ in range(4):
            order.append("other")
            await asyncio.sleep(0)

    async def run() -> None:
        body, turn = bytes(4 * PIECE_BYTES), asyncio.Lock()
        await asyncio.gather(
            _take_by_turns(body, lambda _: order.append("first"), turn),
            _take_by_turns(body, lambda _: order.append("second"), turn),
            serve_others(),
        )

    asyncio.run(run())
    assert order[:3] == ["first", "second", "other"]
    assert all(order.count(name) == 4 for name in ("first", "second", "other"))
    assert "other" in order[3:6]
