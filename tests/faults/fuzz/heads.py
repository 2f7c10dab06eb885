"""Corpus `heads`: raw bytes of requests, some valid, most nearly, sent to a real server.

Every reply has a request id and no undeclared 5xx, every complete request without a body is
answered, and the server neither hangs, grows, nor writes a traceback.
"""

from __future__ import annotations

import contextlib
import random
import re
import select
import socket
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from errors import ERRORS_BY_CODE
from tests.faults.fuzz.findings import Findings
from tests.faults.processes import adopt_orphans, rss_mb
from tests.faults.server import Server
from tests.waiting import wait_until

AT_ONCE = 16
BATCH = 200
QUIET_S = 0.2
"""Without an answer for so long, the client says that it sends no more."""
SLOWEST_S = 10.0
GROWTH_MB = 60.0

_METHODS = (
    b"GET", b"GET", b"GET", b"HEAD", b"POST", b"POST", b"DELETE", b"OPTIONS", b"PUT",
)  # fmt: skip
_ODD_METHODS = (
    b"TRACE", b"CONNECT", b"PRI", b"get", b"", b"G\0T", b"G ET", b"\xff", b"G" * 3000,
)  # fmt: skip
_TARGETS = (
    b"/health", b"/health", b"/jobs", b"/jobs?limit=1", b"/jobs/x?wait=0", b"/jobs/x/cancel",
    b"/jobs/x/retry", b"/jobs/x/events", b"/outputs/x/y.glb", b"/", b"/info", b"/ready", b"/docs",
    b"/client.py", b"http://localhost/health",
)  # fmt: skip
_ODD_TARGETS = (
    b"*", b"", b"http://localhost", b"http://a@[::1]:99999/", b"//x/", b"/%00", b"/%ff%",
    b"/..%2f..%2fetc", b"/\xff", b"/a b", b"/health#x", b"localhost:80", b"/\t",
    b"/jobs?limit=x&&=&%", b"/jobs/%00?wait=nan", b"/jobs?cursor=" + b"9" * 400,
    b"/" + b"a" * 70_000, b"/jobs?" + b"a=1&" * 9000, b"/" + b"%41" * 20_000,
    b"/outputs/" + b"../" * 900,
)  # fmt: skip
_ODD_VERSIONS = (
    b" HTTP/1.0", b" HTTP/1.0", b" HTTP/0.9", b" HTTP/2.0", b" HTTP/1.9", b" http/1.1", b"",
    b" HTTP/1.1 ", b"  HTTP/1.1", b" HTTP/1.", b" ICE/1.0",
)  # fmt: skip
_LINE_ENDS = (b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\0\r\n", b"")
_FIELDS: dict[bytes, tuple[bytes, ...]] = {
    b"Host": (b"localhost", b"127.0.0.1", b"a:b:c", b"[::1]:8000", b"\xff", b"", b"x:99999999"),
    b"Content-Length": (b"5", b"5", b"5", b"-1", b"+5", b"0x5", b"5, 5", b"9" * 25, b"", b"1e3",
        b"65537"),
    b"Transfer-Encoding": (b"chunked", b"chunked", b"gzip, chunked", b"chunked, chunked",
        b"xchunked", b"identity", b"CHUNKED", b"chunked;q=1", b""),
    b"Connection": (b"close", b"keep-alive", b"upgrade", b"close, keep-alive", b"te", b"\0"),
    b"Upgrade": (b"websocket", b"h2c", b"h2c, websocket", b""),
    b"Expect": (b"100-continue", b"100-CONTINUE", b"200-ok"),
    b"Content-Type": (b"application/json", b"multipart/form-data; boundary=b",
        b"multipart/form-data", b"multipart/form-data; boundary=" + b"-" * 300,
        b"text/plain; x=\"", b"\xff", b"a/b;;;=", b"application/x-www-form-urlencoded"),
    b"Range": (b"bytes=0-0", b"bytes=-0", b"bytes=" + b"0-1," * 5000, b"bytes=9-1", b"x"),
    b"If-None-Match": (b"*", b'W/"', b'"a", ' * 3000),
    b"Accept-Encoding": (b"gzip", b"gzip;q=0", b"*;q=x", b"," * 9000),
    b"Origin": (b"null", b"http://localhost", b"http://[::1", b"http://a:99999", b"\xff"),
    b"Cookie": (b"am_key=%ff", b";" * 9000, b"am_key" + b"=" * 999),
    b"Authorization": (b"Bearer \xff", b"Bearer", b"Basic YTpi"),
    b"X-Request-ID": (b"mine", b"a\tb", b"x" * 65, b"\xff", b""),
    b"X-Forwarded-For": (b"1.2.3.4", b"\xff"),
    b"Idempotency-Key": (b"k", b"", b"\xff" * 300),
    b"Last-Event-ID": (b"end", b"\xff"),
}  # fmt: skip
_ODD_FIELDS = (
    b"X: a\r\n b", b"X: a\r\n\tb", b"no colon", b"X : a", b": a", b"X:", b"X\0: a", b"X: \0",
    b"X: a\rb", b"X: " + b"a" * 66_000, b"X" * 66_000, b"\xff\xfe: a", b"X: \x7f", b" X: a",
    b"(X): a",
)  # fmt: skip
_BODIES = (
    b"", b"", b"12345", b"{}", b'{"video_url": 1}', b"{" * 5, b"a=1&a=2",
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nRIFF\r\n--b--\r\n',
    b"--b\r\n\r\n\r\n--b--", b"--b\r\nX: " + b"y" * 9000, b"\r\n" * 400,
)  # fmt: skip
_CHUNKS = (
    b"5\r\n12345\r\n0\r\n\r\n", b"5;a=b\r\n12345\r\n0\r\nX: y\r\n\r\n", b"0\r\n\r\n",
    b"00000\r\n\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFFF\r\n", b"7fffffffffffffff\r\nx",
    b"5\n12345\n0\n\n", b"5\r\n1234567\r\n", b"0x5\r\n", b" 5\r\n12345\r\n", b"5 ;\r\n",
    b"5;" + b"a" * 70_000, b"1\r\nx\r\n" * 9000 + b"0\r\n\r\n",
    b"0\r\n" + b"a: b\r\n" * 120 + b"\r\n", b"g\r\n",
)  # fmt: skip
_REPLY = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")
_CODE = re.compile(rb'"code":"(\w+)"')


def made(chance: random.Random) -> bytes:
    """One to four requests, a third of the inputs with some bytes changed."""
    content = b"".join(_request(chance) for _ in range(chance.choice((1, 1, 1, 1, 2, 4))))
    if chance.random() < 0.1:
        content = chance.choice((b"\r\n", b"\n", b"\r\n" * 500, b"\0", b" ")) + content
    for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 2, 5))):
        content = _changed(chance, content)
    return content


def _request(chance: random.Random) -> bytes:
    end = b"\r\n" if chance.random() < 0.95 else chance.choice(_LINE_ENDS)
    line = _either(chance, _METHODS, _ODD_METHODS) + b" "
    line += _either(chance, _TARGETS, _ODD_TARGETS)
    lines = [line + _either(chance, (b" HTTP/1.1",), _ODD_VERSIONS)]
    if chance.random() < 0.9:
        lines.append(b"Host: localhost")
    for name in chance.choices(list(_FIELDS), k=chance.choice((0, 1, 2, 4))):
        value = _either(chance, _FIELDS[name][:1], _FIELDS[name], 0.4)
        lines += [name + b": " + value] * (1 if chance.random() < 0.95 else 2)
    if chance.random() < 0.1:
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(_ODD_FIELDS))
    if chance.random() < 0.05:
        lines += [b"X-%d: y" % k for k in range(chance.choice((20, 95, 105, 3000)))]
    head = end.join(lines) + end
    body = chance.choice(
        _CHUNKS if b"Transfer" in head else _BODIES if b"Length" in head else (b"",)
    )
    return head + (b"\r\n" if chance.random() < 0.97 else b"") + body


def _either(
    chance: random.Random,
    sound: tuple[bytes, ...],
    odd: tuple[bytes, ...],
    odd_share: float = 0.1,
) -> bytes:
    return chance.choice(odd if chance.random() < odd_share else sound)


def _changed(chance: random.Random, content: bytes) -> bytes:
    at = chance.randrange(max(1, min(len(content), chance.choice((40, 400, 100_000)))))
    size = chance.choice((1, 1, 2, 20))
    kept = content[at : at + size]
    scrap = chance.choice((b"", b"\0", b"\r", b"\n", b"\xff", b":", b" ", kept * 2, kept * 300))
    return content[:at] + scrap + content[at + size :]


def is_owed_a_reply(content: bytes) -> bool:
    """True of a complete head, unless the server may wait for a body."""
    head, blank, _ = content.lstrip(b"\r\n").partition(b"\r\n\r\n")
    return bool(head and blank) and b"POST" not in content


def exchange(port: int, content: bytes) -> bytes:
    """What the server answers before it closes. Raises TimeoutError if it does neither."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), SLOWEST_S) as peer:
        with contextlib.suppress(ConnectionError):
            half = len(content) // 2 if len(content) % 2 else 0
            peer.sendall(content[:half])  # so that half of all inputs arrive in two pieces
            peer.sendall(content[half:])
            patience_s = SLOWEST_S if is_owed_a_reply(content) else QUIET_S
            while select.select([peer], [], [], patience_s)[0]:
                more = peer.recv(65_536)
                received += more
                if not more:
                    return received
                patience_s = QUIET_S
            peer.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while more := peer.recv(65_536):
                received += more
    return received


def judged(content: bytes, received: bytes) -> tuple[str, str]:
    """What is wrong with the replies (or empty), and the first status."""
    replies = [found for found in _REPLY.finditer(received) if found[1] != b"100"]
    for found in replies:
        status = found[1].decode()
        if b"\r\nx-request-id: " not in b"\r\n" + found[2].lower():
            return "a reply has no X-Request-ID", status
        if status >= "500" and not _is_declared(status, received[found.end() :]):
            return f"an undeclared {status}", status
    if is_owed_a_reply(content) and not replies:
        return "a complete request has no reply", "nothing"
    if not replies:
        return "", "nothing"
    end = replies[1].start() if len(replies) > 1 else len(received)
    code = _CODE.search(received[replies[0].end() : end])
    return "", f"{replies[0][1].decode()} {code[1].decode() if code else ''}".strip()


def _is_declared(status: str, body: bytes) -> bool:
    """True for a 5xx of the error tree that a client can expect, and for /ready's own reply."""
    if body.startswith(b'{"ready":false'):
        return status == "503"
    code = _CODE.search(body)
    kind = ERRORS_BY_CODE.get(code[1].decode() if code else "internal_error")
    return kind is not None and str(kind.status) == status and kind.code != "internal_error"


def tried(server: Server, content: bytes) -> tuple[str, str, float]:
    """The fault found (or empty), the first status, and the seconds it took."""
    began = time.monotonic()
    try:
        wrong, how = judged(content, exchange(server.port, content))
    except (TimeoutError, OSError) as exc:
        wrong, how = f"{type(exc).__name__}: {exc}", "finding"
    return wrong, how, time.monotonic() - began


def run(count: int, seed: int, tell: Callable[[str], None]) -> Findings:
    """Send `count` inputs, AT_ONCE at a time."""
    chance, findings = random.Random(seed), Findings("heads", seed, tell)
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as folder,
        adopt_orphans(),
        Server(Path(folder)) as server,
        ThreadPoolExecutor(AT_ONCE) as senders,
    ):
        server.start()
        wait_until(lambda: server.http.get("/ready").status_code == 200)
        before_mb = rss_mb(server.pid)
        while findings.tried < count:
            batch = [made(chance) for _ in range(min(BATCH, count - findings.tried))]
            logged = server.output().count("Traceback")
            results = senders.map(lambda content: tried(server, content), batch)
            for content, (wrong, how, took_s) in zip(batch, results, strict=True):
                findings.ended(how, took_s)
                if wrong:
                    findings.keep(content, wrong)
            for content, wrong in _of_server(server, batch, logged, before_mb):
                findings.keep(content, wrong)
    return findings


def _of_server(
    server: Server, batch: list[bytes], logged: int, before_mb: float
) -> list[tuple[bytes, str]]:
    """What a batch did to the server, with the input that did it, if it does it again alone."""
    if not server.answers():
        return [(b"\n\n".join(batch), "the server does not answer")]
    if (grown_mb := rss_mb(server.pid) - before_mb) > GROWTH_MB:
        return [(b"\n\n".join(batch), f"the server grew by {grown_mb:.0f} MB")]
    if server.output().count("Traceback") == logged:
        return []
    for content in batch:
        logged = server.output().count("Traceback")
        tried(server, content)
        if server.output().count("Traceback") > logged:
            return [(content, "a traceback in the log")]
    return [(b"\n\n".join(batch), "a traceback in the log")]
