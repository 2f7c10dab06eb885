"""Attacks by bytes of HTTP: heads, trailers, chunks, forms and connections, one function each."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain

from tests.faults.attacks.attack import (
    CLOSED,
    REFUSED,
    TOO_LONG,
    Target,
    attack,
    connection,
    flood,
    head,
    repeated,
    send_all,
    small_upload,
    status,
)

FORM = "Content-Type: multipart/form-data; boundary=b"
CHUNKED = "Transfer-Encoding: chunked"
END = b"\r\n"
FILE_PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'

# --- heads


@attack(*TOO_LONG)
def thirty_mb_of_small_fields(target: Target) -> Iterator[int]:
    """Every field is a few bytes long."""
    yield flood(target, chain([head()], repeated(b"a:b\r\n", 30), [END]))


@attack(*TOO_LONG)
def one_field_of_100_mb(target: Target) -> Iterator[int]:
    """A value without end, and a name without end."""
    yield flood(target, chain([head(), b"X-A: "], repeated(b"a", 100), [END + END]))
    yield flood(target, chain([head()], repeated(b"a", 100), [b": b", END + END]))


@attack(414, *TOO_LONG)
def request_lines_of_100_mb(target: Target) -> Iterator[int]:
    """A path, a query and a method without end."""
    for start in (b"GET /", b"GET /jobs?status="):
        yield flood(target, chain([start], repeated(b"a", 100), [b" HTTP/1.1\r\n", END]))


@attack(400, *TOO_LONG, short=True)
def lines_that_are_not_http(target: Target) -> Iterator[int]:
    """A method without end, empty lines before the request, TLS, HTTP/2, binary data."""
    for piece in (b"A", b"\r\n", b"\n"):
        yield flood(target, chain(repeated(piece, 5), [head(), END]))
    tls = bytes.fromhex("16030100a5010000a1")
    for line in (tls + bytes(200), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\xff\xfe\r\n\r\n"):
        yield flood(target, [line])


@attack(*TOO_LONG, short=True)
def heads_a_little_too_long(target: Target) -> Iterator[int]:
    """A few bytes more than 64 KB, and one field more than 100."""
    yield flood(target, [head(), b"X-A: ", b"a" * (1 << 16), END + END])
    yield flood(target, [head(), b"".join(b"X-%d: b\r\n" % k for k in range(100)), END])
    yield flood(target, [head(path="/jobs?" + "&" * (1 << 16)), END])


@attack(200, short=True)
def heads_that_are_long_but_right(target: Target) -> Iterator[int]:
    """What browsers and proxies may add."""
    yield flood(target, [head("GET", "/health", "Cookie: " + "a" * 30_000), END])
    yield flood(target, [head(), b"".join(b"X-%d: b\r\n" % k for k in range(90)), END])


@attack(200, 206, 400, 416, 422, short=True)
def fields_that_are_long_lists(target: Target) -> Iterator[int]:
    """Ranges, tags, encodings, times and cookies by the thousand, and spaces in their places."""
    lists = ("Range: bytes=" + "0-0," * 9000, "Range: bytes=" + " " * 60_000 + "x",
             "If-None-Match: " + '"a",' * 9000, "If-Modified-Since: " + "(" * 60_000,
             "Accept-Encoding: " + "gzip;q=0.1," * 4000, "Accept-Encoding: gzip" + ";" * 60_000,
             "Cookie: " + "a=b;" * 9000, "X-Forwarded-For: " + "1.1.1.1," * 5000)  # fmt: skip
    for field in lists:
        yield flood(target, [head("GET", "/", field), END])


# --- trailers and chunks


@attack(400, *TOO_LONG)
def twenty_mb_of_trailers(target: Target) -> Iterator[int]:
    """Many small ones, and one that is long; both after the reply."""
    for piece in (b"a:b\r\n", b"a"):
        yield _after_reply(target, chain([b"0\r\n"], repeated(piece, 20)))


@attack(400, *TOO_LONG)
def twenty_mb_of_chunk_extension(target: Target) -> Iterator[int]:
    """In one chunk, and a little in each of many chunks."""
    yield _after_reply(target, chain([b"1;"], repeated(b"a", 20), [b"\r\nx\r\n0\r\n"]))
    yield _after_reply(target, chain(repeated(b"1;a=bcdefghijklmnop\r\nx\r\n", 20), [b"0\r\n"]))


@attack(400, *TOO_LONG, short=True)
def chunk_sizes_without_end(target: Target) -> Iterator[int]:
    """Zeros before the size; a size that does not fit 64 bits."""
    yield _after_reply(target, chain(repeated(b"0", 5), [b"1\r\nx\r\n0\r\n"]))
    yield _after_reply(target, [b"fffffffffffffffff\r\nx\r\n0\r\n"])


def _after_reply(target: Target, pieces: Iterable[bytes]) -> int:
    """The status of a second request, after a body of `pieces` and an empty line."""
    with connection(target) as peer:
        send_all(peer, [head("GET", "/health", CHUNKED), END])
        if status(peer) != 200:
            return CLOSED
        send_all(peer, pieces)
        send_all(peer, [END, head(), END])
        return status(peer)


@attack(*REFUSED, CLOSED)
def a_body_of_one_byte_chunks(target: Target) -> Iterator[int]:
    """A file of 300 KB of which each byte is a chunk."""
    body = FILE_PART + bytes(300_000) + b"\r\n--b--\r\n"
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    yield flood(target, [head("POST", "/jobs", FORM, CHUNKED), END, chunks])


# --- bodies


@attack(*REFUSED, *TOO_LONG)
def part_heads_without_end(target: Target) -> Iterator[int]:
    """A name, a field and many fields in the head of a part."""
    for start, piece in (
        (b'--b\r\nContent-Disposition: form-data; name="', b"a"),
        (b"--b\r\nX-A: ", b"a"),
        (b"--b\r\n", b"a:b\r\n"),
        (b"--b\r\n", b"a"),
    ):
        yield _form(target, chain([start], repeated(piece, 30)))


@attack(*REFUSED, *TOO_LONG)
def many_parts(target: Target) -> Iterator[int]:
    """Empty parts, one field, one file again and again, and parts without a head."""
    for part in (
        b'--b\r\nContent-Disposition: form-data; name=""\r\n\r\n\r\n',
        b'--b\r\nContent-Disposition: form-data; name="mode"\r\n\r\nfast\r\n',
        FILE_PART + b"\r\n",
        b"--b\r\n\r\n\r\n",
    ):
        yield _form(target, repeated(part, 30))


@attack(*REFUSED, *TOO_LONG)
def bytes_around_the_parts(target: Target) -> Iterator[int]:
    """A preamble without end, a field without end, and near-boundaries only."""
    field = b'--b\r\nContent-Disposition: form-data; name="mode"\r\n\r\n'
    yield _form(target, repeated(b"a", 60))
    yield _form(target, repeated(b"\r\n", 30))
    yield _form(target, chain([field], repeated(b"a", 60)))
    yield _form(target, chain([FILE_PART], repeated(b"\r\n--", 60)))


@attack(*REFUSED, *TOO_LONG, short=True)
def boundaries_that_are_long(target: Target) -> Iterator[int]:
    """Some are longer than the 70 characters that RFC 2046 allows."""
    for length in (71, 1000, 60_000):
        kind = f"Content-Type: multipart/form-data; boundary={'b' * length}"
        yield flood(target, [head("POST", "/jobs", kind, "Content-Length: 99"), END, bytes(99)])


@attack(*REFUSED, *TOO_LONG, short=True)
def many_form_fields(target: Target) -> Iterator[int]:
    """In a small body, and in one of 30 MB."""
    kind = "Content-Type: application/x-www-form-urlencoded"
    for body in (b"a=b&" * 10_000, b"&" * 60_000, b"%41=%42&" * 8000, b"a=b&" * 8_000_000):
        size = f"Content-Length: {len(body)}"
        yield flood(target, chain([head("POST", "/jobs", kind, size), END], _in_blocks(body)))


@attack(*REFUSED, *TOO_LONG, short=True)
def json_that_is_deep_or_large(target: Target) -> Iterator[int]:
    """Nesting, long numbers and texts, many and repeated names."""
    names = json.dumps({f"n{k}": k for k in range(5000)})
    for text in ("[" * 60_000, '{"a":' * 10_000, "9" * 60_000, f'{{"seed":{"9" * 60_000}}}',
                 f'{{"mode":"{"a" * 60_000}"}}', names, '{"a":1,' * 5000, '"' + "\\u0000" * 9000,
                 "[" * 3_000_000):  # fmt: skip
        size = f"Content-Length: {len(text)}"
        yield flood(
            target,
            chain(
                [head("POST", "/jobs", "Content-Type: application/json", size), END],
                _in_blocks(text.encode()),
            ),
        )


def _form(target: Target, pieces: Iterable[bytes]) -> int:
    chunks = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    start = head("POST", "/jobs", FORM, CHUNKED) + END
    return flood(target, chain([start], chunks, [b"0\r\n\r\n"]))


def _in_blocks(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), 1 << 16):
        yield body[start : start + (1 << 16)]


# --- connections


@attack(200, CLOSED, 431)
def a_flood_of_pipelined_requests(target: Target) -> Iterator[int]:
    """20 MB of requests at once; the replies are not read before all is sent."""
    for path in ("/health", "/info"):
        with connection(target) as peer:
            peer.settimeout(5.0)
            try:
                for block in repeated(head(path=path) + END, 20):
                    peer.sendall(block)
            except OSError:
                pass
            yield status(peer)


@attack(200, 413, short=True)
def a_body_that_nobody_asked_for(target: Target) -> Iterator[int]:
    """30 MB with GET /health."""
    request = head("GET", "/health", "Content-Length: 30000000") + END
    yield flood(target, chain([request], repeated(b"a", 28)))


@attack(200, CLOSED)
def many_connections(target: Target) -> Iterator[int]:
    """400 that say nothing, 100 with half a head, 100 that leave their answers unread."""
    with ExitStack() as opened:
        for k in range(600):
            peer = opened.enter_context(connection(target))
            if k % 6 == 0:
                peer.sendall(head()[:20])
            elif k % 6 == 1:
                peer.sendall(head(path="/jobs?limit=100") + END)
        yield flood(target, [head(), END])


@attack(*REFUSED)
def slow_uploads_beside_others(target: Target) -> Iterator[int]:
    """Eight bodies of a byte every five seconds. Others get places within 30 seconds."""
    announced = head("POST", "/jobs", FORM, "Content-Length: 1000000") + END + FILE_PART
    with ExitStack() as opened:
        slow = [opened.enter_context(connection(target)) for _ in range(8)]
        for peer in slow:
            peer.sendall(announced)
        deadline = time.monotonic() + 30.0
        for source in ("127.0.0.2", "127.0.0.1"):
            while (found := small_upload(target, source)) == 503 and time.monotonic() < deadline:
                for peer in slow:
                    send_all(peer, [b"x"])
                time.sleep(5.0)
            yield found


@attack(*REFUSED, 404)
def many_names_and_keys(target: Target) -> Iterator[int]:
    """Hundreds of unknown jobs, idempotency keys and request ids: nothing is kept of them."""
    kind, size = "Content-Type: application/json", "Content-Length: 2"
    with connection(target) as peer:
        for k in range(500):
            key = f"Idempotency-Key: {k:0200d}"
            peer.sendall(head(path=f"/jobs/{k:0500d}") + END)
            yield status(peer)
            peer.sendall(head("POST", "/jobs", key, kind, size, f"X-Request-ID: {k}") + END + b"{}")
            yield status(peer)
