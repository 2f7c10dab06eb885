"""The guarded download, against a real server on this machine that behaves badly on request."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import ServiceError, UploadTooLarge, UrlFetchFailed, UrlNotAllowed
from intake.url_guard import GuardedTransport, check_url, fetch, is_public

T = TypeVar("T")
Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
MEDIA = os.environ.get("TEST_MEDIA", "")
CLIP = bytes(range(256)) * 1000


# --- checks of the text

REFUSED = [
    "", " ", "http://", "http:///x", "//x/y", "x", "file:///etc/passwd", "ftp://example.com/x",
    "gopher://example.com/", "data:video/mp4;base64,AAAA", "javascript:alert(1)", "HTTP:a.com",
    "http://localhost/", "http://LOCALHOST/", "http://localhost./", "http://a.localhost/",
    "http://printer.local/", "http://db.internal/", "http://intranet/", "http://router.home.arpa/",
    "http://0/", "http://127.1/", "http://127.0.1/", "http://2130706433/", "http://0x7f000001/",
    "http://0x7f.1/", "http://0177.0.0.1/", "http://127.0.0.1./", "http://1.2.3.4.5/", "http://256.1.1.1/",
    "http://127.0.0.1/", "http://127.8.8.8/", "http://0.0.0.0/", "http://10.0.0.1/", "http://172.31.255.255/",
    "http://192.168.1.1/", "http://169.254.169.254/", "http://100.100.100.200/", "http://192.0.0.192/",
    "http://168.63.129.16/", "http://198.18.0.1/", "http://224.0.0.1/", "http://255.255.255.255/",
    "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/", "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::1]/", "http://[2002:7f00:1::]/", "http://[2001::1]/",
    "http://[fc00::1]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://[fe80::1%25lo]/",
    "http://[fe80::1%lo]/", "http://[fec0::1]/", "http://[ff02::1]/", "http://[::1", "http://]/",
    "http://127。0。0。1/", "http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://ⓛocalhost/",
    "http://user@example.com/", "http://user:pass@example.com/", "http://@example.com/",
    "http://a@b@example.com/", "http://example.com@127.0.0.1/", "http://127.0.0.1#@example.com/",
    "http://127.0.0.1\\@example.com/", "http://example.com\\@127.0.0.1/",
    "http://example.com:22/", "http://example.com:0/", "http://example.com:99999/", "http://example.com:-1/",
    "http://example.com:8080/", "http://example.com:80:80/", "http://example.com:a/",
    "http://exa mple.com/", "http://example.com/a b", "http://example.com\r\nX: y/", "http://example.com/\n",
    "http://example\t.com/", "\thttp://example.com/", "http://example.com/\0", "http://example.com/\u202e",
    "http://exa\u00admple.com/", "http://-a.com/", "http://a..com/", "http://.com/", "http://a%00.com/",
    "http://%31%32%37.0.0.1/", "http://a.com%2f@b.com/", "http://" + "a" * 64 + ".com/",
    "http://" + "a." * 130 + "com/", "http://example.com/" + "a" * 5000, "http://\udcff.com/",
]  # fmt: skip
ALLOWED = [
    "http://example.com/", "https://example.com/clip.mp4?token=a%20b&x=1#t=1", "HTTPS://EXAMPLE.COM/A",
    "https://example.com:443/x", "http://example.com:80/x", "https://bücher.example/ü.mp4",
    "http://xn--bcher-kva.example/", "http://1.1.1.1/", "http://[2606:4700:4700::1111]/", "http://my_cdn.example/",
]  # fmt: skip


@pytest.mark.parametrize("url", REFUSED)
def test_bad_urls_are_refused_by_their_text(url: str) -> None:
    with pytest.raises(UrlNotAllowed) as caught:
        check_url(url)
    assert url.strip() == "" or url not in caught.value.message


@pytest.mark.parametrize("url", ALLOWED)
def test_good_urls_are_accepted(url: str) -> None:
    assert check_url(url).scheme in ("http", "https")


def test_private_hosts_and_other_ports_are_accepted_where_allowed() -> None:
    for url in ("http://localhost:8000/x", "http://10.0.0.1/", "http://nas/x", "http://[::1]:81/"):
        assert check_url(url, allow_private=True)
    for url in ("http://127.1/", "http://a@nas/", "file:///x", "http://[fe80::1%25lo]/"):
        with pytest.raises(UrlNotAllowed):
            check_url(url, allow_private=True)


def urls_of_the_manifest() -> list[Any]:
    if not MEDIA:
        return [pytest.param("", marks=pytest.mark.skip(reason="TEST_MEDIA is not set"))]
    manifest = json.loads((Path(MEDIA) / "hostile" / "manifest.json").read_text())
    return [case["url"] for case in manifest["urls"] if case["expect"] == "reject"]


@pytest.mark.parametrize("url", urls_of_the_manifest())
def test_every_hostile_url_is_refused_before_any_dns_query(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_url(url)


@given(st.text() | st.builds("http://{}/{}".format, st.text(), st.text()))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        check_url(text)
    except UrlNotAllowed:
        pass


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    ["", "x", "127.0.0.1", "::1", "fe80::1%eth0", "2002:7f00:1::", "::ffff:8.8.8.8", "169.254.1.1",
     "240.0.0.1", "2001:db8::1"],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


# --- the download


class Names:
    """A resolver for `video.example` and similar names, which counts its look-ups."""

    def __init__(self, **answers: Sequence[str]) -> None:
        self.answers = {name.replace("_", "."): list(found) for name, found in answers.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such host")
        return self.answers[host]


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port of 127.0.0.1; `answer` gets the path and writes the response."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            await answer(request.split(b" ")[1].decode(), writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]


def reply(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = {
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


async def send_clip(path: str, out: asyncio.StreamWriter) -> None:
    out.write(reply(CLIP))


def download(
    answer: Answer,
    dest: Path,
    url: str = "http://video.example:{port}/clip.mp4",
    names: Names | None = None,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    **options: Any,
) -> int:
    """`fetch` from a server that runs `answer`; loopback counts as public, any port as 80."""
    known = names or Names(video_example=["127.0.0.1"], other_example=["127.0.0.1"])

    async def run() -> int:
        async with serving(answer, tls[0] if tls else None) as port:
            transport = GuardedTransport(
                resolver=known,
                allowed=lambda address: address == "127.0.0.1",
                tls=tls[1] if tls else True,
            )
            given: dict[str, Any] = {"limit": 1_000_000, "transport": transport, **options}
            return await fetch(url.format(port=port), dest, allow_private=True, **given)

    return asyncio.run(run())


def test_a_clip_arrives_complete_with_progress(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    async def note(received: int, total: int | None) -> None:
        told.append((received, total))

    size = download(send_clip, tmp_path / "clip", on_progress=note)
    assert size == len(CLIP) and (tmp_path / "clip").read_bytes() == CLIP
    assert told[-1] == (len(CLIP), len(CLIP)) and told == sorted(told)


def test_a_body_of_unknown_length_arrives_too(tmp_path: Path) -> None:
    async def chunked(path: str, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")

    assert download(chunked, tmp_path / "clip") == 5


def test_exactly_the_limit_passes_and_one_byte_more_does_not(tmp_path: Path) -> None:
    dest = tmp_path / "clip"
    assert download(send_clip, dest, limit=len(CLIP)) == len(CLIP)
    with pytest.raises(UploadTooLarge) as caught:
        download(send_clip, dest, limit=len(CLIP) - 1)
    assert caught.value.facts == {"max_bytes": len(CLIP) - 1} and not dest.exists()


def test_an_endless_body_is_cut_at_the_limit(tmp_path: Path) -> None:
    async def endless(path: str, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            out.write(bytes(65536))
            await out.drain()

    with pytest.raises(UploadTooLarge):
        download(endless, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_a_slow_body_is_cut_at_the_deadline(tmp_path: Path) -> None:
    async def send_slowly(path: str, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(1000):
            out.write(b"x")
            await out.drain()
            await asyncio.sleep(0.05)

    with pytest.raises(UrlFetchFailed, match="longer than 0.6 s"):
        download(send_slowly, tmp_path / "clip", total_s=0.6)
    assert not (tmp_path / "clip").exists()


def test_a_compressed_body_is_refused(tmp_path: Path) -> None:
    async def bomb(path: str, out: asyncio.StreamWriter) -> None:
        out.write(reply(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip"))

    with pytest.raises(UrlFetchFailed, match="compressed"):
        download(bomb, tmp_path / "clip")


async def close_early(path: str, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def send_garbage(path: str, out: asyncio.StreamWriter) -> None:
    out.write(b"\xff\xfe rubbish\r\n\r\n")


async def send_nothing(path: str, out: asyncio.StreamWriter) -> None:
    pass


async def send_wrong_length(path: str, out: asyncio.StreamWriter) -> None:
    out.write(reply(b"x", Content_Length="-5"))


async def send_endless_headers(path: str, out: asyncio.StreamWriter) -> None:
    out.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000)


async def not_found(path: str, out: asyncio.StreamWriter) -> None:
    out.write(reply(b"secret of the server", "404 No secret here"))


@pytest.mark.parametrize(
    "answer",
    [close_early, send_garbage, send_nothing, send_wrong_length, send_endless_headers, not_found],
)
def test_a_misbehaving_server_is_a_failed_download(answer: Answer, tmp_path: Path) -> None:
    with pytest.raises(UrlFetchFailed) as caught:
        download(answer, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()
    assert "secret" not in caught.value.message and "127.0.0.1" not in caught.value.message


def redirecting(*targets: str) -> Answer:
    """/0 leads to targets[0], which may name /1, and so on; other paths give the clip."""

    async def answer(path: str, out: asyncio.StreamWriter) -> None:
        step = int(path[1:]) if path[1:].isdigit() else len(targets)
        if step < len(targets):
            port = out.get_extra_info("sockname")[1]
            target = targets[step].format(port=port)
            out.write(reply(b"", "302 Found", Location=target))
        else:
            out.write(reply(CLIP))

    return answer


def test_three_redirects_are_followed_with_one_lookup_each(tmp_path: Path) -> None:
    names = Names(video_example=["127.0.0.1"], other_example=["127.0.0.1"])
    hops = redirecting("/1", "http://other.example:{port}/2", "//video.example:{port}/clip")
    assert download(hops, tmp_path / "clip", "http://video.example:{port}/0", names) == len(CLIP)
    assert names.asked == ["video.example", "video.example", "other.example", "video.example"]


def test_a_fourth_redirect_is_not_followed(tmp_path: Path) -> None:
    with pytest.raises(UrlFetchFailed, match="more than 3 times"):
        download(
            redirecting("/1", "/2", "/3", "/4"), tmp_path / "clip", "http://video.example:{port}/0"
        )


@pytest.mark.parametrize(
    "target",
    ["http://inside.example:{port}/", "http://127.1/", "file:///etc/passwd", "http://a@other.example/",
     "http://[fe80::1%25lo]/", "http://\u2460.example\\/", "http://x:99999/"],
)  # fmt: skip
def test_a_redirect_is_checked_like_the_first_address(target: str, tmp_path: Path) -> None:
    names = Names(video_example=["127.0.0.1"], inside_example=["10.0.0.1"])
    with pytest.raises((UrlNotAllowed, UrlFetchFailed)):
        download(redirecting(target), tmp_path / "clip", "http://video.example:{port}/0", names)
    assert names.asked in (["video.example"], ["video.example", "inside.example"])


def test_a_redirect_without_a_target_fails(tmp_path: Path) -> None:
    with pytest.raises(ServiceError):
        download(redirecting(""), tmp_path / "clip", "http://video.example:{port}/0")


@pytest.mark.parametrize(
    "records", [["127.0.0.1", "10.0.0.1"], ["10.0.0.1"], ["::1", "127.0.0.1"], []]
)
def test_one_private_record_among_public_ones_refuses_the_host(
    records: list[str], tmp_path: Path
) -> None:
    with pytest.raises(UrlNotAllowed, match="private network"):
        download(send_clip, tmp_path / "clip", names=Names(video_example=records))


def test_the_host_is_resolved_only_once_per_hop(tmp_path: Path) -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            found = await super().__call__(host, port)
            self.answers[host] = ["10.0.0.1"]
            return found

    names = Rebinding(video_example=["127.0.0.1"])
    assert download(send_clip, tmp_path / "clip", names=names) == len(CLIP)
    assert names.asked == ["video.example"]


def test_an_unknown_host_is_a_failed_download(tmp_path: Path) -> None:
    with pytest.raises(UrlFetchFailed, match="host is unknown"):
        download(send_clip, tmp_path / "clip", "http://nobody.example:{port}/")


SAME_NAMES = {
    "faß.de": "xn--fa-hia.de",  # IDNA 2003 made fass.de of it, which may belong to somebody else
    "ẞ.example": "xn--zca.example",
    "βόλος.example": "xn--nxasmm1c.example",
    "XN--FA-HIA.de": "xn--fa-hia.de",
    "例え。テスト": "xn--r8jz45g.xn--zckzah",
    "раypal.example": "xn--ypal-43d9g.example",
    "my_cdn.example": "my_cdn.example",
}


@pytest.mark.parametrize(("written", "sent"), SAME_NAMES.items())
def test_the_name_that_is_resolved_is_the_name_that_is_sent(
    tmp_path: Path, written: str, sent: str
) -> None:
    hosts: list[bytes] = []
    names = Names()
    names.answers[sent] = ["127.0.0.1"]

    async def note_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        hosts.extend(re.findall(rb"(?i)\r\nhost: (.*?):\d+\r\n", request))
        writer.write(reply(CLIP))
        await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(note_host, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            transport = GuardedTransport(resolver=names, allowed=lambda _: True)
            url = f"http://{written}:{port}/clip"
            dest = tmp_path / "clip"
            await fetch(url, dest, limit=len(CLIP), allow_private=True, transport=transport)

    asyncio.run(run())
    assert (names.asked, hosts) == ([sent], [sent.encode()])


@pytest.mark.parametrize(
    "host",
    ["☃.net", "I❤.ws", "xn--i-7iq.ws", "xn--ls8h.la", "xn--zzzzzz.com", "xn--a.com", "١٢٣.com",
     "e\u0301.example", "a\u200db.example", "exa℀mple.com", "ex%61mple.com", "ä" * 60 + ".de",
     "example.com.", "xn--" + "a" * 60 + ".de", ".".join(["ß" * 8] * 20) + ".de"],
)  # fmt: skip
def test_a_name_that_has_no_single_form_is_refused(host: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_url(f"http://{host}/")


def test_the_real_transport_never_reaches_loopback_through_a_name(tmp_path: Path) -> None:
    reached = []

    async def note(path: str, out: asyncio.StreamWriter) -> None:
        reached.append(path)

    async def run() -> None:
        async with serving(note) as port:
            guarded = GuardedTransport(resolver=Names(video_example=["127.0.0.1"]))
            url = f"http://video.example:{port}/"
            await fetch(url, tmp_path / "x", limit=9, allow_private=True, transport=guarded)

    with pytest.raises(UrlNotAllowed):
        asyncio.run(run())
    assert reached == []


def test_allow_private_reaches_this_machine(tmp_path: Path) -> None:
    async def run() -> int:
        async with serving(send_clip) as port:
            url = f"http://127.0.0.1:{port}/x"
            return await fetch(url, tmp_path / "x", limit=1_000_000, allow_private=True)

    assert asyncio.run(run()) == len(CLIP)


def test_a_proxy_from_the_environment_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert download(send_clip, tmp_path / "clip") == len(CLIP)


def test_a_cancelled_download_leaves_no_file_and_no_descriptor(tmp_path: Path) -> None:
    async def stall(path: str, out: asyncio.StreamWriter) -> None:
        out.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await out.drain()
        await asyncio.sleep(60)

    async def run() -> None:
        async with serving(stall) as port:
            url = f"http://127.0.0.1:{port}/x"
            task = asyncio.create_task(fetch(url, tmp_path / "x", limit=9999, allow_private=True))
            while not (tmp_path / "x").exists():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    before = len(os.listdir("/dev/fd"))
    asyncio.run(run())
    assert not (tmp_path / "x").exists()
    assert len(os.listdir("/dev/fd")) == before


# --- TLS


def certificate(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a new self-signed certificate, and a client's that trusts it."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the keys")


@needs_openssl
def test_tls_checks_the_host_name_although_the_address_is_fixed(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "video.example")
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    url = "https://video.example:{port}/clip"
    assert download(send_clip, tmp_path / "clip", url, tls=(server, client)) == len(CLIP)
    assert asked == ["video.example"]


@needs_openssl
def test_tls_asks_for_the_name_that_was_resolved(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "xn--fa-hia.de")
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, name, _context: asked.append(name)
    names = Names()
    names.answers["xn--fa-hia.de"] = ["127.0.0.1"]
    url, tls = "https://faß.de:{port}/clip", (server, client)
    assert download(send_clip, tmp_path / "clip", url, names=names, tls=tls) == len(CLIP)
    assert asked == names.asked == ["xn--fa-hia.de"]


@needs_openssl
def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "elsewhere.example")
    with pytest.raises(UrlFetchFailed):
        download(
            send_clip, tmp_path / "clip", "https://video.example:{port}/", tls=(server, client)
        )


@needs_openssl
def test_https_never_falls_back_to_http(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "video.example")
    hop = redirecting("http://other.example:{port}/clip")
    with pytest.raises(UrlNotAllowed, match="https to http"):
        download(hop, tmp_path / "clip", "https://video.example:{port}/0", tls=tls)
