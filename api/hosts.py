"""Which Host headers are answered, and whether a client is on this machine and behind no proxy.

The Host is the only protection from DNS rebinding: a page of evil.example whose name suddenly means
127.0.0.1 sends `Host: evil.example`. An address cannot be rebound, nor can a name that is resolved
without DNS. security.py, jobs.py and http_protocol.py call this; nothing here reads the network.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from starlette.requests import Request

from settings import Settings

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?(?::([0-9]{0,5}))?", re.ASCII
)
_PROXY_HEADERS = frozenset(
    {"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "x-cluster-client-ip",
     "client-ip", "cdn-loop"}
)  # fmt: skip
_PROXY_PREFIXES = ("x-forwarded", "x-original-", "x-envoy-", "x-amzn-", "cf-", "fly-")


def split_host(values: Sequence[str]) -> tuple[str, int | None] | None:
    """Name in lower case (IPv6 in brackets) and port of exactly one valid Host header, or None."""
    found = _HOST.fullmatch(values[0].strip()) if len(values) == 1 else None
    if found is None:
        return None
    name = found[1].lower()
    if name.startswith("["):
        address = _address(name)
        if address is None or address.version == 4:
            return None
        name = f"[{address}]"
    return name, int(found[2]) if found[2] else None


def take_host_of_target(target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """In `GET http://name/path` the name counts, and replaces the Host header (RFC 9112, 3.2.2)."""
    scheme, found, rest = target.partition(b"://")
    if not found or not scheme.isalpha():
        return
    host = re.split(rb"[/?#]", rest, maxsplit=1)[0]
    others = [pair for pair in headers if pair[0] != b"host"]
    count = max(1, len(headers) - len(others))  # two Host headers stay a mistake
    headers[:] = [*others, *[(b"host", host)] * count]


class HostRule:
    """Without a key: addresses, local names and those of ALLOWED_HOSTS.

    A server that is bound to loopback answers for no other machine's address. With a key and no
    list it answers for every name, because a foreign page does not have the key.
    """

    def __init__(self, settings: Settings) -> None:
        listed = {_listed_name(host) for host in settings.allowed_hosts}
        self._is_local_only = settings.bound_to_loopback
        self._any = "*" in listed or (
            bool(settings.api_keys) and not listed and not self._is_local_only
        )
        self._names = listed | LOCAL_NAMES | {_listed_name(settings.host)}
        if not self._is_local_only:  # nobody can register such names: no DNS server has them
            own = socket.gethostname().partition(".")[0].lower()
            self._names |= {own, f"{own}.local"}
        domains = (host[1:] for host in listed if host.startswith("*."))
        self._domains = (".localhost", *domains)

    def allows(self, values: Sequence[str], http_version: str) -> bool:
        """`values` are all Host headers of the request: HTTP/1.0 knows requests without one."""
        if not values:
            return self._any and http_version == "1.0"
        found = split_host(values)
        if found is None:
            return False
        name = found[0]
        return (
            self._any
            or name in self._names
            or name.endswith(self._domains)
            or (not self._is_local_only and _address(name) is not None)
        )


def is_on_this_machine(request: Request, settings: Settings) -> bool:
    """True for a client on this machine, as far as that can be known. Never behind a known proxy.

    A proxy may add no header: nginx's `proxy_pass` alone sends the upstream's address as Host, over
    HTTP/1.0 or with `Connection: close`. No browser does, and not curl.
    """
    if settings.root_path or settings.accel_prefix:
        return False
    if not all(map(_is_local, settings.allowed_hosts)):
        return False  # the server has a name, so others reach it
    headers = request.headers
    if request.scope["http_version"] == "1.0" or any(map(_is_of_a_proxy, headers)):
        return False
    if headers.get("connection", "keep-alive").strip().lower() != "keep-alive":
        return False
    host = split_host(headers.getlist("host"))
    return (
        host is not None
        and _is_local(host[0])
        and request.client is not None
        and _is_local(request.client.host.removeprefix("::ffff:"))
    )


def _is_of_a_proxy(header: str) -> bool:
    return header in _PROXY_HEADERS or header.startswith(_PROXY_PREFIXES)


def _is_local(name: str) -> bool:
    """True if this name or address means this machine wherever it is resolved."""
    address = _address(name)
    if address is not None:
        return address.is_loopback
    return name.lower() == "localhost" or name.lower().endswith(".localhost")


def _listed_name(host: str) -> str:
    """An entry of ALLOWED_HOSTS as `split_host` writes it; its port does not count."""
    wildcard = "*." if host.startswith("*.") else ""
    found = split_host([host[len(wildcard) :]]) or split_host([f"[{host}]"])
    return wildcard + (found[0] if found else host)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address in its usual form, IPv6 also in brackets; never 127.1 or 0x7f000001."""
    try:
        return ipaddress.ip_address(text[1:-1] if text.startswith("[") else text)
    except ValueError:
        return None
