"""GET /jobs: its pages, and who may see them without a key."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest

from api.schemas import JobList
from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import answer_of, refused
from tests.servers import ThreadServer


def test_the_list_is_paged_newest_first(serve: Serve) -> None:
    with httpx.Client(base_url=serve().url, timeout=60) as client:
        ids = [submit(client) for _ in range(5)]
        for job_id in ids:
            ended(client, job_id)
        seen: list[str] = []
        cursor: Any = ""
        for _ in range(3):
            page = client.get("/jobs", params={"limit": 2, "cursor": cursor}).json()
            JobList.model_validate(page, strict=True)
            seen += [job["job_id"] for job in page["jobs"]]
            cursor = page["next_cursor"]
        assert cursor is None and seen == ids[::-1]
        assert client.get("/jobs", params={"status": "queued,running"}).json()["jobs"] == []
        assert len(client.get("/jobs", params={"status": "finished"}).json()["jobs"]) == 5


WRONG: list[dict[str, str]] = [
    {"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"limit": ""}, {"limit": "1.5"},
    {"cursor": "x"}, {"cursor": "-1"}, {"cursor": "+1"}, {"cursor": "9" * 18}, {"cursor": "١"},
    {"cursor": " 1"}, {"cursor": "1\n"}, {"status": "done"}, {"status": "Queued"}, {"status": ","},
    {"status": "queued,"}, {"status": ",queued"}, {"status": "queued;running"}, {"status": "\0"},
    {"status": "queued\n"}, {"status": "queued running"},
]  # fmt: skip


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_list_query_is_refused(client: httpx.Client, query: dict[str, str]) -> None:
    refused(client.get("/jobs", params=query), 422, "invalid_parameter")


RIGHT: list[dict[str, str]] = [
    {"cursor": ""}, {"cursor": "41"}, {"cursor": "9" * 17}, {"status": ""}, {"status": "queued"},
    {"status": "queued,running"}, {"status": " error , finished "},
]  # fmt: skip


@pytest.mark.parametrize("query", [*WRONG, *RIGHT])
def test_the_schema_refuses_what_the_server_refuses(
    client: httpx.Client, query: dict[str, str]
) -> None:
    [(name, value)] = query.items()
    parameters = client.get("/openapi.json").json()["paths"]["/jobs"]["get"]["parameters"]
    [schema] = [field["schema"] for field in parameters if field["name"] == name]
    if "pattern" in schema and "\n" not in value:  # Python's $ would allow it at the end
        assert bool(re.search(schema["pattern"], value)) is (query in RIGHT)
    assert (client.get("/jobs", params=query).status_code == 200) is (query in RIGHT)


THROUGH_A_PROXY: list[dict[str, str]] = [
    *({header: "127.0.0.1"} for header in (
        "X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "x-forwarded-proto", "X-Forwarded-Host",
        "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "X-Original-URI", "X-Amzn-Trace-Id",
    )),
    {"Connection": "close"},  # nginx with proxy_http_version 1.1 and nothing else
    {"Connection": "upgrade"},
]  # fmt: skip


@pytest.mark.parametrize("headers", THROUGH_A_PROXY)
def test_jobs_cannot_be_listed_through_a_proxy(
    client: httpx.Client, headers: dict[str, str]
) -> None:
    refused(client.get("/jobs", headers=headers), 403, "listing_disabled")


def test_jobs_cannot_be_listed_over_http_1_0(quick: ThreadServer) -> None:
    """nginx's default, with the Host 127.0.0.1:8000 and no other sign of a proxy."""
    with socket.create_connection(("127.0.0.1", int(quick.url.rpartition(":")[2])), 60) as peer:
        peer.sendall(b"GET /jobs HTTP/1.0\r\nHost: 127.0.0.1:8000\r\n\r\n")
        assert b'"code":"listing_disabled"' in answer_of(peer)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "mesh.localhost", "[::1]:8000"]
)
def test_on_this_machine_jobs_can_be_listed(client: httpx.Client, host: str) -> None:
    assert client.get("/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["192.168.1.5:8000", "8.8.8.8", "0.0.0.0", "[fd00::5]", "mesh.example", "other.example"]
)
def test_jobs_cannot_be_listed_under_another_host(serve: Serve, host: str) -> None:
    server = serve(host="0.0.0.0", allowed_hosts=("*",))
    with httpx.Client(base_url=server.url, timeout=60) as client:
        refused(client.get("/jobs", headers={"Host": host}), 403, "listing_disabled")


@pytest.mark.parametrize(
    "settings",
    [{"root_path": "/mesh"}, {"accel_prefix": "/_jobs"}, {"allowed_hosts": ("mesh.example",)},
     {"allowed_hosts": ("localhost", "192.168.1.5")}, {"allowed_hosts": ("*",)}],
)  # fmt: skip
def test_a_server_that_is_set_up_for_others_lists_no_jobs(
    serve: Serve, settings: dict[str, object]
) -> None:
    with httpx.Client(base_url=serve(**settings).url, timeout=60) as client:
        response = client.get("/jobs")
        assert (response.status_code, response.json()["code"]) == (403, "listing_disabled")


def test_a_server_that_names_only_this_machine_lists_jobs(serve: Serve) -> None:
    """As deploy/compose.yaml starts it."""
    server = serve(host="0.0.0.0", allowed_hosts=("localhost", "127.0.0.1"))
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/jobs").status_code == 200
