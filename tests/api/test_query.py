"""What stands after the `?`: unknown, repeated and broken fields are refused on every API route."""

from __future__ import annotations

import socket
from uuid import UUID

import httpx
import pytest

from tests.api.bodies import submit
from tests.api.test_submissions import answer_of, refused
from tests.servers import ThreadServer

ID = UUID(int=1)
API = [
    ("GET", "/health"), ("HEAD", "/health"), ("GET", "/ready"), ("GET", "/info"),
    ("GET", "/metrics"), ("GET", "/jobs"), ("HEAD", "/jobs"), ("POST", "/jobs"),
    ("GET", f"/jobs/{ID}"), ("HEAD", f"/jobs/{ID}"), ("DELETE", f"/jobs/{ID}"),
    ("GET", f"/jobs/{ID}/events"), ("POST", f"/jobs/{ID}/cancel"), ("POST", f"/jobs/{ID}/retry"),
    ("GET", f"/outputs/{ID}/meshes.zip"), ("HEAD", f"/outputs/{ID}/x.glb"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), API)
def test_an_unknown_query_field_is_refused_on_every_api_route(
    client: httpx.Client, method: str, path: str
) -> None:
    response = client.request(method, f"{path}?formatt=x")
    assert response.status_code == 422
    if method != "HEAD":
        body = refused(response, 422, "invalid_parameter")
        assert body["field"] == "formatt" and '"formatt"' in body["detail"]


@pytest.mark.parametrize(
    ("path", "meant"),
    [("/jobs?limt=3", "limit"), ("/jobs?Cursor=3", "cursor"), (f"/jobs/{ID}?wiat=1", "wait")],
)
def test_the_known_field_is_named(client: httpx.Client, path: str, meant: str) -> None:
    body = refused(client.get(path), 422, "invalid_parameter")
    assert f"Did you mean `{meant}`?" in body["detail"] and meant in body["fields"]


@pytest.mark.parametrize(
    "path", ["/", "/style.css", "/client.py", "/docs", "/docs.css", "/openapi.json"]
)
def test_the_page_and_its_files_ignore_their_query(client: httpx.Client, path: str) -> None:
    assert client.get(f"{path}?v=1.0.0&v=2").status_code == 200


@pytest.mark.parametrize(
    "query",
    ["limit=1&limit=2", "limit=1&limit=1", "status=queued&limit=1&status=", "status=&stat%75s="],
)
def test_a_field_that_is_given_twice_is_refused(client: httpx.Client, query: str) -> None:
    assert "twice" in refused(client.get(f"/jobs?{query}"), 422, "invalid_parameter")["detail"]


@pytest.mark.parametrize(
    "query", [b"status=%", b"status=%f", b"status=%zz", b"status=%ff", b"%c3%28=1", b"limit=%u0031",
              b"status=%ed%a0%80", b"&".join(b"limit=1" for _ in range(40))],
)  # fmt: skip
def test_a_query_that_cannot_be_decoded_is_malformed(quick: ThreadServer, query: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(quick.url.rpartition(":")[2])), 60) as peer:
        peer.sendall(b"GET /jobs?" + query + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = answer_of(peer)
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"malformed_request"' in answer


def test_known_fields_still_work(client: httpx.Client) -> None:
    job_id = submit(client)
    for path in (
        f"/jobs/{job_id}?wait=0.5", f"/jobs/{job_id}?wait=1e1", f"/jobs/{job_id}?", "/jobs?",
        "/jobs?&", "/jobs?limit=1&status=finished%2Cqueued&cursor=99", "/jobs?limit=%31",
    ):  # fmt: skip
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
