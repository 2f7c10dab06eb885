"""Downloads a video from a client's URL without access to private networks (SSRF protection).

`check_url` checks the text alone, when the job is posted. `fetch` resolves the host once per hop,
requires every record to be public, and connects to exactly that address, so that a second DNS
answer changes nothing. Redirects are checked like the first URL. Messages contain no foreign text;
URLs are never logged, since their queries may contain tokens. Called by api/ and worker/.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import httpx

from errors import DiskFull, UploadTooLarge, UrlFetchFailed, UrlNotAllowed, is_disk_full

MAX_REDIRECTS = 3
MAX_URL_CHARACTERS = 4096
DOWNLOAD_TIMEOUT_S = 120.0

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
OnProgress = Callable[[int, "int | None"], Awaitable[None]]

_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTS = {301, 302, 303, 307, 308}
_DNS_S = 5.0
_CHUNK_BYTES = 1 << 16

# `ip.is_global` would let 192.0.0.192, 168.63.129.16, 64:ff9b::/96, 2002::/16, fec0::/10 and
# multicast through (Python 3.11): hence our own lists, from the IANA special-purpose registries
_V4_REFUSED = [
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # a cloud's host agent, on a public address
    )
]  # fmt: skip
_V6_PUBLIC = ipaddress.IPv6Network("2000::/3")
_V6_REFUSED = [
    ipaddress.IPv6Network(block)
    for block in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]
_LOCAL_NAMES = re.compile(r"(^|\.)(localhost|localdomain|local|internal|intranet|lan|home\.arpa)$")
_HOST_NAME = re.compile(
    r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
)

log = logging.getLogger(__name__)


def check_url(url: str, allow_private: bool = False) -> httpx.URL:
    """Check the text of a URL, without DNS. Raises UrlNotAllowed.

    `allow_private` allows private hosts and any port: for a server that only trusted clients reach.
    """
    if not 0 < len(url) <= MAX_URL_CHARACTERS:
        raise UrlNotAllowed(f"A URL has 1 to {MAX_URL_CHARACTERS} characters.")
    # browsers and parsers treat these characters differently: refuse them
    if re.search(r"[\x00-\x20\x7f-\xa0\\\u200b-\u200f\u2028-\u202f\ufeff\ud800-\udfff]", url):
        raise UrlNotAllowed("The URL contains spaces, control characters or backslashes.")
    try:
        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii").lower()
        _ = parsed.host  # httpx decodes it: an xn-- name that is no IDN (an emoji) raises
    except (httpx.InvalidURL, UnicodeError, ValueError) as exc:
        raise UrlNotAllowed("The URL is malformed.") from exc
    if parsed.scheme not in _DEFAULT_PORTS:
        raise UrlNotAllowed("Only http and https URLs are fetched.")
    if not host:
        raise UrlNotAllowed("The URL has no host.")
    if parsed.userinfo or "@" in re.split(r"[/?#]", url.partition("//")[2])[0]:
        raise UrlNotAllowed("The URL contains credentials.")
    if not (allow_private or parsed.port in (None, 80, 443)):
        raise UrlNotAllowed("Only the ports 80 and 443 are fetched from.")
    if parsed.port is not None and not 0 < parsed.port < 1 << 16:
        raise UrlNotAllowed("The URL is malformed.")
    _check_host(host, allow_private)
    return parsed


def is_public(address: str) -> bool:
    """True for a public IP address; False for anything else, including names."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in block for block in _V4_REFUSED)
    if ip.scope_id is not None:
        return False
    return ip in _V6_PUBLIC and not any(ip in block for block in _V6_REFUSED)


async def fetch(
    url: str,
    dest: Path,
    *,
    limit: int,
    allow_private: bool = False,
    on_progress: OnProgress | None = None,
    total_s: float = DOWNLOAD_TIMEOUT_S,
    transport: GuardedTransport | None = None,
) -> int:
    """Download `url` to `dest`; the number of bytes. `on_progress(received, total or None)`.

    Raises UrlNotAllowed, UrlFetchFailed, UploadTooLarge (over `limit` bytes) or DiskFull; then, and
    when cancelled, `dest` does not exist.
    """
    checked = check_url(url, allow_private)
    if transport is None:
        # reading the trusted certificates takes tens of milliseconds: not on the event loop
        tls = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        transport = GuardedTransport(allow_private=allow_private, tls=tls)
    try:
        download = _follow(checked, dest, limit, allow_private, on_progress, transport)
        return await asyncio.wait_for(download, total_s)
    except BaseException as exc:
        dest.unlink(missing_ok=True)
        if isinstance(exc, asyncio.TimeoutError):
            raise UrlFetchFailed(f"The download took longer than {total_s:g} s.") from exc
        if isinstance(exc, OSError) and is_disk_full(exc):
            raise DiskFull("The disk filled up during the download.") from exc
        if isinstance(exc, (httpx.InvalidURL, UnicodeError)):
            raise UrlNotAllowed("The URL is malformed.") from exc
        if isinstance(exc, (httpx.HTTPError, httpx.StreamError)):
            log.info("a download failed: %s", type(exc).__name__)
            raise UrlFetchFailed(
                "The server could not be reached, or closed the connection too early."
            ) from exc
        raise


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Resolves the host once, checks its addresses, and connects to one of them.

    Tests replace DNS and `is_public` with `resolver` and `allowed`.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        tls: ssl.SSLContext | bool = True,
        resolver: Resolver | None = None,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        limits = httpx.Limits(max_connections=4, max_keepalive_connections=0)
        super().__init__(verify=tls, trust_env=False, limits=limits)
        self._resolve = resolver or _resolve
        self._allowed = allowed or ((lambda _: True) if allow_private else is_public)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises UrlNotAllowed if any record of the host is private."""
        url = request.url
        # the name as it is sent in Host and TLS: `url.host`, decoded, could be encoded differently
        host, port = url.raw_host.decode("ascii"), url.port or _DEFAULT_PORTS[url.scheme]
        try:
            addresses = await asyncio.wait_for(self._resolve(host, port), _DNS_S)
        except (OSError, UnicodeError, asyncio.TimeoutError) as exc:
            raise UrlFetchFailed("The URL's host is unknown.") from exc
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise UrlNotAllowed("The URL leads to a private network.")
        failure: httpx.ConnectError | None = None
        for address in addresses[:2]:
            # the Host header already holds the name; TLS requests and checks the name as well
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=address),
                headers=request.headers,
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await super().handle_async_request(pinned)
            except httpx.ConnectError as exc:
                failure = exc
        assert failure is not None
        raise failure


def _check_host(host: str, allow_private: bool) -> None:
    bare = host[1:-1] if host.startswith("[") else host
    if ":" in bare or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", bare.rsplit(".", 1)[-1]):
        # an address in its normal form only: not 127.1, 0x7f000001, 2130706433, 0177.0.0.1
        try:
            ipaddress.ip_address(bare)
        except ValueError as exc:
            raise UrlNotAllowed("The URL's host is not a valid address.") from exc
        if "%" in bare or not (allow_private or is_public(bare)):
            raise UrlNotAllowed("The URL leads to a private network.")
        return
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise UrlNotAllowed("The URL's host is not a valid name.")
    if not allow_private and ("." not in host or _LOCAL_NAMES.search(host)):
        raise UrlNotAllowed("The URL leads to a private network.")


async def _resolve(host: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    records = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(record[4][0]) for record in records]


async def _follow(
    url: httpx.URL,
    dest: Path,
    limit: int,
    allow_private: bool,
    on_progress: OnProgress | None,
    transport: GuardedTransport,
) -> int:
    client = httpx.AsyncClient(
        transport=transport,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(10.0, read=15.0),
        # a compressed body could unpack to any size, and video does not compress further
        headers={"Accept-Encoding": "identity", "User-Agent": "actionmesh-worker"},
    )
    async with client:
        for _ in range(MAX_REDIRECTS + 1):
            client.cookies.clear()
            async with client.stream("GET", url) as response:
                if response.status_code not in _REDIRECTS:
                    return await _save(response, dest, limit, on_progress)
                target = url.join(response.headers.get("location", ""))
            if url.scheme == "https" and target.scheme != "https":
                raise UrlNotAllowed("The server redirects from https to http.")
            url = check_url(str(target), allow_private)
    raise UrlFetchFailed(f"The server redirects more than {MAX_REDIRECTS} times.")


async def _save(
    response: httpx.Response, dest: Path, limit: int, on_progress: OnProgress | None
) -> int:
    if response.status_code != 200:
        raise UrlFetchFailed(
            f"The server answered {response.status_code}, not 200.",
            http_status=response.status_code,
        )
    if response.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise UrlFetchFailed("The server sends a compressed body, which was not asked for.")
    declared = response.headers.get("content-length", "")
    total = int(declared) if re.fullmatch(r"[0-9]{1,18}", declared) else None
    if total is not None and total > limit:
        raise _too_large(limit)
    received = 0
    with open(dest, "wb") as file:
        async for chunk in response.aiter_raw(_CHUNK_BYTES):
            received += len(chunk)
            if received > limit:
                raise _too_large(limit)
            await asyncio.to_thread(file.write, chunk)
            if on_progress is not None:
                await on_progress(received, total)
    return received


def _too_large(limit: int) -> UploadTooLarge:
    return UploadTooLarge(f"The file behind the URL is over {limit} bytes.", max_bytes=limit)
