"""Allowed requests: Host, Origin and key, each as a matrix; and the headers of every reply."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from api.security import SECURITY_HEADERS
from tests.api.bodies import send, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import answer_of, refused
from tests.inline_executors import FinishesAtOnce
from tests.servers import ThreadServer, quick_settings, thread_server

EVIL = "https://evil.example"


# --- every reply


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health"), ("GET", "/nope"), ("PATCH", "/jobs"), ("POST", "/jobs"), ("GET", "/docs")],
)
def test_every_reply_carries_an_id_and_the_security_headers(
    client: httpx.Client, method: str, path: str
) -> None:
    headers = client.request(method, path).headers
    assert len(headers["x-request-id"]) == 32
    for name, value in SECURITY_HEADERS:
        assert headers[name.decode()] == value.decode()
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "server" not in headers


@pytest.mark.parametrize("given", ["abc-1", "A.b_c-9", "x" * 64])
def test_a_valid_request_id_is_returned(client: httpx.Client, given: str) -> None:
    response = client.get("/health", headers={"X-Request-ID": given})
    assert response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["x" * 65, "a b", "<script>", "a\tb", ""])
def test_another_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    response = client.get("/health", headers={"X-Request-ID": given})
    assert len(response.headers["x-request-id"]) == 32


def test_405_names_the_allowed_methods(client: httpx.Client) -> None:
    response = client.put("/jobs")
    refused(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"
    assert client.put("/health").headers["allow"] == "GET, HEAD"
    assert client.get("/jobs/x/cancel").headers["allow"] == "POST"
    assert client.head("/jobs/x/events").headers["allow"] == "GET"
    assert client.post("/openapi.json").headers["allow"] == "GET, HEAD"


# --- Host


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "LOCALHOST", "127.0.0.1:1", "[::1]:8000", "localhost."]
)
def test_on_loopback_local_names_are_answered(client: httpx.Client, host: str) -> None:
    assert client.get("/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "a b", ":80",
             "localhost:x", "[::1", "127.0.0.2"],
)  # fmt: skip
def test_on_loopback_other_names_are_not(client: httpx.Client, host: str) -> None:
    refused(client.get("/health", headers={"Host": host}), 400, "bad_host")


def test_two_host_headers_are_refused(quick: ThreadServer) -> None:
    with socket.create_connection(("127.0.0.1", int(quick.url.rpartition(":")[2])), 60) as peer:
        peer.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        answer = answer_of(peer)
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"bad_host"' in answer


def test_allowed_hosts_are_answered_beside_the_local_ones(serve: Serve) -> None:
    hosts = ("mesh.example.com", "*.mesh.test")
    with httpx.Client(
        base_url=serve(host="0.0.0.0", allowed_hosts=hosts).url, timeout=60
    ) as client:
        answered = {
            host: client.get("/health", headers={"Host": host}).status_code
            for host in ("mesh.example.com", "a.mesh.test:80", "localhost", "mesh.test", "evil.com")
        }
    assert list(answered.values()) == [200, 200, 200, 400, 400]


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server for the whole network, without a key: as `docker run -p 8000:8000` starts it."""
    jobs_dir = tmp_path_factory.mktemp("public") / "jobs"
    settings = quick_settings(jobs_dir, host="0.0.0.0")
    with (
        thread_server(jobs_dir, FinishesAtOnce(), settings) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "host",
    ["192.168.1.5:8000", "192.168.1.5", "8.8.8.8", "127.0.0.2", "10.0.0.7.", "0.0.0.0:8000",
     "[::1]", "[fd00::5]:8000", "[FD00:0:0::5]", "[::ffff:192.168.1.5]", "localhost", "LOCALHOST.",
     "mesh.localhost:8000", "localhost:", socket.gethostname().partition(".")[0],
     f"{socket.gethostname().partition('.')[0]}.local"],
)  # fmt: skip
def test_without_a_key_addresses_and_local_names_are_answered(
    public: httpx.Client, host: str
) -> None:
    assert public.get("/health", headers={"Host": host}).status_code == 200


REBOUND = [
    "evil.example", "evil.example:8000", "EVIL.EXAMPLE.", "192.168.1.5.evil.example",
    "localhost.evil.example", "evil-localhost", "localhost.localdomain", "printer.local",
    "a..localhost", ".localhost", "localhost..", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
    "127.0.0.1.1", "256.1.1.1", "1.2.3", "[::1", "::1", "[fe80::1%25eth0]", "[fe80::1%eth0]",
    "[127.0.0.1]", "[]", "[:::1]", "localhost@evil.example", "evil.example@localhost",
    "user:x@localhost", "localhost/evil", "localhost,evil.example", "a b", "localhost:80:80",
    "localhost:x", "localhost:123456", ":8000", "", "http://localhost", "löcalhost",
]  # fmt: skip


@pytest.mark.parametrize("host", REBOUND)
def test_without_a_key_other_names_are_refused_whatever_the_address(
    public: httpx.Client, host: str
) -> None:
    """A name that the sender of a web page controls may mean this server's address (rebinding)."""
    asked = [
        (b"Host", host.encode()),
        (b"X-Forwarded-Host", b"localhost"),
        (b"Origin", b"http://" + host.encode()),
    ]
    body = refused(public.get("/health", headers=asked), 400, "bad_host")
    assert "ALLOWED_HOSTS" in body["hint"]
    refused(public.post("/jobs", headers=asked), 400, "bad_host")
    refused(public.get("/", headers=asked), 400, "bad_host")


@pytest.mark.parametrize("settings", [{"api_keys": ("key",)}, {"allowed_hosts": ("*",)}])
def test_a_key_or_a_star_answers_for_every_name_but_not_for_two(
    serve: Serve, settings: dict[str, object]
) -> None:
    server = serve(host="0.0.0.0", **settings)
    for heads, status in (
        (b"Host: any.example", 200),
        (b"Host: any.example\r\nHost: any.example", 400),
        (b"Host: any.example, other.example", 400),
        (b"Host: a@any.example", 400),
        (b"X: y", 400),
    ):
        assert raw_status(server, b"GET /health HTTP/1.1\r\n" + heads) == status, heads
    assert raw_status(server, b"GET /health HTTP/1.0") == 200


def test_without_a_key_a_request_has_a_host(quick: ThreadServer) -> None:
    assert raw_status(quick, b"GET /health HTTP/1.0") == 400
    assert raw_status(quick, b"GET /health HTTP/1.1\r\nX: y") == 400
    assert raw_status(quick, b"GET /health HTTP/1.0\r\nHost: localhost") == 200


TARGETS = [
    (b"GET http://evil.example/health HTTP/1.1\r\nHost: localhost", 400),
    (b"GET http://user:x@localhost/health HTTP/1.1\r\nHost: localhost", 400),
    (b"GET http://evil.example?/health HTTP/1.1\r\nHost: localhost", 400),
    (b"GET http://evil.example/health HTTP/1.0", 400),
    (b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400),
    (b"GET http://localhost/health HTTP/1.1\r\nHost: evil.example", 200),
    (b"GET HTTP://LOCALHOST:8000/health HTTP/1.1\r\nHost: localhost", 200),
    (b"GET http://[::1]:8000/health HTTP/1.1\r\nHost: localhost", 200),
    (b"GET http://localhost/health HTTP/1.0", 200),
    (b"GET /docs?u=http://evil.example/ HTTP/1.1\r\nHost: localhost", 200),
]


@pytest.mark.parametrize(("head", "status"), TARGETS)
def test_the_host_of_an_absolute_target_counts(
    quick: ThreadServer, head: bytes, status: int
) -> None:
    assert raw_status(quick, head) == status


def test_listed_names_are_compared_as_browsers_send_them(serve: Serve) -> None:
    listed = ("Mesh.Example.com.", "other.example:8443", "*.Lab.example", "fd00::7")
    server = serve(host="127.0.0.1", allowed_hosts=listed)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for host in ("mesh.example.com", "other.example", "a.b.lab.example:1", "[fd00:0::7]"):
            assert client.get("/health", headers={"Host": host}).status_code == 200, host
        for host in ("lab.example", "xlab.example", "192.168.1.5", "mesh.localhost.example"):
            refused(client.get("/health", headers={"Host": host}), 400, "bad_host")


def raw_status(server: ThreadServer, head: bytes) -> int:
    """The status of the reply to a request that no client library would send."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), 60) as peer:
        peer.sendall(head + b"\r\n\r\n")
        return int(peer.recv(65_536).split(b" ")[1])


# --- Origin

ORIGINS = [
    ({}, True),
    ({"Origin": "http://localhost:3000"}, True),
    ({"Origin": "https://127.0.0.1"}, True),
    ({"Origin": "http://[::1]:5173"}, True),
    ({"Origin": EVIL}, False),
    ({"Origin": "null"}, False),
    ({"Origin": "http://localhost.evil.example"}, False),
    ({"Origin": "http://localhost:x"}, False),
    ({"Origin": "file://localhost"}, False),
    ([("Origin", "http://localhost"), ("Origin", EVIL)], False),
    ({"Sec-Fetch-Site": "cross-site"}, False),
    ({"Sec-Fetch-Site": "CROSS-SITE"}, False),
    ({"Sec-Fetch-Site": "Same-Site"}, False),
    ({"Sec-Fetch-Site": "unknown"}, False),
    ([("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")], False),
    ({"Sec-Fetch-Site": "same-site"}, False),
    ({"Sec-Fetch-Site": "same-origin"}, True),
    ({"Sec-Fetch-Site": "none"}, True),
]


@pytest.mark.parametrize(("headers", "allowed"), ORIGINS)
def test_pages_of_other_sites_may_not_change_anything(
    client: httpx.Client, headers: dict[str, str] | list[tuple[str, str]], allowed: bool
) -> None:
    job_id = submit(client)
    response = client.delete(f"/jobs/{job_id}", headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        refused(response, 403, "origin_not_allowed")
        assert client.get(f"/jobs/{job_id}").status_code == 200


def test_the_page_itself_is_same_origin(serve: Serve) -> None:
    server = serve(host="0.0.0.0", allowed_hosts=("mesh.example",))
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for host, origin, status in (
            ("mesh.example", "https://mesh.example", 400),
            ("mesh.example:8000", "http://mesh.example:8000", 400),
            ("mesh.example", "https://mesh.example:8443", 403),
            ("mesh.example", "https://other.example", 403),
        ):
            response = client.post("/jobs", headers={"Host": host, "Origin": origin})
            assert response.status_code == status  # 400: only the body is missing


def test_origins_can_be_allowed(serve: Serve) -> None:
    with httpx.Client(
        base_url=serve(cors_origins=("https://app.example",)).url, timeout=60
    ) as client:
        response = client.post("/jobs", headers={"Origin": "https://app.example"})
        assert response.status_code == 400
        assert response.headers["access-control-allow-origin"] == "https://app.example"
        refused(client.post("/jobs", headers={"Origin": EVIL}), 403, "origin_not_allowed")


def test_cors_names_one_origin_and_never_credentials(client: httpx.Client) -> None:
    shown = client.get("/health", headers={"Origin": "http://localhost:3000"}).headers
    assert shown["access-control-allow-origin"] == "http://localhost:3000"
    assert "X-Request-ID" in shown["access-control-expose-headers"]
    for headers in (shown, client.get("/health", headers={"Origin": EVIL}).headers):
        assert headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in headers
    assert (
        "access-control-allow-origin" not in client.get("/health", headers={"Origin": EVIL}).headers
    )


def test_preflights(client: httpx.Client) -> None:
    ask = {"Access-Control-Request-Method": "POST", "Origin": "http://localhost:3000"}
    allowed = client.options("/jobs", headers=ask)
    assert allowed.status_code == 204
    assert "DELETE" in allowed.headers["access-control-allow-methods"]
    assert "Idempotency-Key" in allowed.headers["access-control-allow-headers"]
    refused(client.options("/jobs", headers={**ask, "Origin": EVIL}), 403, "origin_not_allowed")
    assert client.options("/jobs").status_code == 405


# --- key


@pytest.fixture
def locked(serve: Serve) -> ThreadServer:
    return serve(api_keys=("first", "sécond"), host="127.0.0.1")


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/docs.css"])
def test_open_paths_need_no_key(locked: ThreadServer, path: str) -> None:
    assert httpx.get(locked.url + path, timeout=60).status_code in (200, 503)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/info"), ("GET", "/jobs"), ("POST", "/jobs"), ("GET", "/jobs/x"),
     ("DELETE", "/jobs/x"), ("GET", "/outputs/x/y"), ("GET", "/nope"), ("POST", "/health"),
     ("GET", "/openapi.json"), ("GET", "/docs")],
)  # fmt: skip
def test_other_paths_need_a_key(locked: ThreadServer, method: str, path: str) -> None:
    response = httpx.request(method, locked.url + path)
    refused(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "reads", "writes"),
    [
        ({"Authorization": "Bearer first"}, True, True),
        ({"Authorization": "bearer first"}, True, True),
        ({"Authorization": "Bearer  first"}, True, True),
        ({"X-API-Key": "first"}, True, True),
        ({"X-API-Key": "sécond".encode()}, True, True),
        ({"Cookie": "am_key=first"}, True, False),
        ({"Cookie": "a=b; am_key=s%C3%A9cond; c=d"}, True, False),
        ({"Cookie": "xam_key=first"}, False, False),
        ({"Authorization": "Basic first"}, False, False),
        ({"Authorization": "first"}, False, False),
        ({"Authorization": "Bearer First"}, False, False),
        ({"Authorization": "Bearer firs"}, False, False),
        ({"Authorization": "Bearer"}, False, False),
        ({"X-API-Key": ""}, False, False),
        ({"X-API-Key": "first,sécond".encode()}, False, False),
        ({"X-API-Key": b"\xff\xfe"}, False, False),
    ],
)
def test_keys(
    locked: ThreadServer, headers: dict[str, str | bytes], reads: bool, writes: bool
) -> None:
    sent = {name: v if isinstance(v, bytes) else v.encode() for name, v in headers.items()}
    raw = [(name.encode(), value) for name, value in sent.items()]
    with httpx.Client(base_url=locked.url, timeout=60) as client:
        assert client.get("/info", headers=raw).status_code == (200 if reads else 401)
        assert client.head("/info", headers=raw).status_code == (200 if reads else 401)
        # 400: only the body is missing
        assert client.post("/jobs", headers=raw).status_code == (400 if writes else 401)


def test_with_a_key_jobs_can_be_listed(locked: ThreadServer) -> None:
    headers = {"X-API-Key": "first", "X-Forwarded-For": "203.0.113.9"}
    assert httpx.get(f"{locked.url}/jobs", headers=headers, timeout=60).status_code == 200


def test_host_is_checked_before_origin_and_origin_before_key(locked: ThreadServer) -> None:
    wrong = {"Host": "evil.example", "Origin": EVIL}
    refused(httpx.post(f"{locked.url}/jobs", headers=wrong, timeout=60), 400, "bad_host")
    refused(
        httpx.post(f"{locked.url}/jobs", headers={"Origin": EVIL}, timeout=60),
        403,
        "origin_not_allowed",
    )


# --- ROOT_PATH


@pytest.mark.parametrize("prefix", ["", "/mesh"])
def test_root_path_is_part_of_all_addresses(serve: Serve, prefix: str) -> None:
    """Whether the proxy removes the prefix or not."""
    with httpx.Client(base_url=serve(root_path="/mesh").url, timeout=60) as client:
        response = send(client)
        assert response.headers["location"].startswith("/mesh/jobs/")
        job_id = response.json()["job_id"]
        body = client.get(f"{prefix}/jobs/{job_id}?wait=20").json()
        address = body["outputs"]["archive"]
        assert address == f"/mesh/outputs/{job_id}/meshes.zip"
        assert client.get(address).status_code == 200
        assert client.get(f"{prefix}/nope").json()["type"] == "/mesh/docs#not_found"
