"""Conditional requests and Accept-Encoding: every rule of RFC 9110 that the addresses follow."""

from __future__ import annotations

import gzip
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.datastructures import Headers

from api.responses import accepts_gzip
from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.api.test_outputs import CONTENT, NAME, SIZE, TAG
from tests.api.test_submissions import refused
from tests.servers import ThreadServer

LONG_AGO = "Sun, 06 Nov 1994 08:49:37 GMT"
FUTURE = "Fri, 31 Dec 2100 23:59:59 GMT"
OTHER = '"other"'


@pytest.fixture(scope="module")
def job_id(quick: ThreadServer) -> str:
    """A finished job."""
    with httpx.Client(base_url=quick.url, timeout=60) as client:
        return str(ended(client, submit(client))["job_id"])


# --- the files of a job: a strong tag and a time

CONDITIONS: list[tuple[dict[str, str], int]] = [
    ({"If-Match": TAG}, 200),
    ({"If-Match": f"{OTHER}, {TAG}"}, 200),
    ({"If-Match": "*"}, 200),
    ({"If-Match": OTHER}, 412),
    ({"If-Match": f"W/{TAG}"}, 412),  # the comparison is strong
    ({"If-Match": TAG.strip('"')}, 412),
    ({"If-Match": ""}, 412),
    ({"If-Match": '"a,b", "c"'}, 412),
    ({"If-Unmodified-Since": FUTURE}, 200),
    ({"If-Unmodified-Since": LONG_AGO}, 412),
    ({"If-Unmodified-Since": "Sunday, 06-Nov-94 08:49:37 GMT"}, 412),
    ({"If-Unmodified-Since": "Sun Nov  6 08:49:37 1994"}, 412),
    ({"If-Unmodified-Since": "yesterday"}, 200),
    ({"If-Unmodified-Since": ""}, 200),
    ({"If-Unmodified-Since": LONG_AGO, "If-Match": TAG}, 200),  # the tag counts, not the time
    ({"If-None-Match": TAG}, 304),
    ({"If-None-Match": f"W/{TAG}"}, 304),
    ({"If-None-Match": OTHER}, 200),
    ({"If-None-Match": TAG, "If-Match": OTHER}, 412),
    ({"If-None-Match": TAG, "If-Match": TAG}, 304),
    ({"If-None-Match": OTHER, "If-Modified-Since": FUTURE}, 200),
    ({"If-Modified-Since": FUTURE}, 304),
    ({"If-Modified-Since": LONG_AGO}, 200),
    ({"If-Modified-Since": "31/12/2100"}, 200),
    ({"If-Modified-Since": "Fri, 31 Dec 99999999999 23:59:59 GMT"}, 200),
    ({"If-Match": OTHER, "Range": "bytes=0-3"}, 412),
    ({"If-None-Match": TAG, "Range": "bytes=0-3"}, 304),
    ({"If-Match": TAG, "Range": "bytes=0-3"}, 206),
    ({"If-Match": TAG, "Range": f"bytes={SIZE}-"}, 416),
    ({"If-Unmodified-Since": FUTURE, "Range": "bytes=0-3"}, 206),
    ({"If-Range": FUTURE, "Range": "bytes=0-3"}, 200),
    ({"If-Range": OTHER, "Range": f"bytes={SIZE}-"}, 200),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS)
def test_the_conditions_of_a_file(
    client: httpx.Client, job_id: str, headers: dict[str, str], status: int
) -> None:
    address = f"/outputs/{job_id}/{NAME}"
    response = client.get(address, headers=headers)
    assert response.status_code == status, response.text
    if status == 412:
        refused(response, 412, "precondition_failed")
    if status in (200, 304):
        assert response.headers["etag"] == TAG
        assert response.content == (CONTENT if status == 200 else b"")
    without_range = {name: value for name, value in headers.items() if name != "Range"}
    expected = client.get(address, headers=without_range).status_code
    assert client.head(address, headers=headers).status_code == expected


def test_the_time_of_a_file_itself_is_its_own_condition(client: httpx.Client, job_id: str) -> None:
    address = f"/outputs/{job_id}/{NAME}"
    time = client.get(address).headers["last-modified"]
    for name, status in (("If-Unmodified-Since", 200), ("If-Modified-Since", 304)):
        assert client.get(address, headers={name: time}).status_code == status
    same = client.get(address, headers={"Range": "bytes=0-3", "If-Range": time})
    assert same.status_code == 206


# --- a job: a weak tag, which can never be If-Match's


def test_the_conditions_of_a_job(client: httpx.Client) -> None:
    job_id = ended(client, submit(client))["job_id"]
    address = f"/jobs/{job_id}"
    tag = client.get(address).headers["etag"]
    for headers, status in (
        ({"If-Match": tag}, 412),
        ({"If-Match": tag.removeprefix("W/")}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-None-Match": tag, "If-Match": "*"}, 304),
        ({"If-Unmodified-Since": LONG_AGO}, 200),  # a job has no Last-Modified
        ({"If-Modified-Since": FUTURE}, 200),
    ):
        assert client.get(address, headers=headers).status_code == status, headers
        assert client.head(address, headers=headers).status_code == status, headers
    for headers in ({"If-Match": OTHER}, {"If-None-Match": "*"}, {"If-None-Match": tag}):
        refused(client.delete(address, headers=headers), 412, "precondition_failed")
    assert client.get(address).status_code == 200
    assert client.delete(address, headers={"If-Match": "*"}).status_code == 200
    unknown = client.get(f"/jobs/{uuid4()}", headers={"If-Match": "*"})
    assert unknown.status_code == 404


# --- the page's files: compressed or not, and a weak tag


def test_the_conditions_of_the_page(client: httpx.Client) -> None:
    tag = client.get("/style.css").headers["etag"]
    for headers, status in (
        ({"If-None-Match": tag}, 304),
        ({"If-Match": tag}, 412),
        ({"If-Unmodified-Since": LONG_AGO}, 412),
        ({"If-Modified-Since": FUTURE}, 304),
        ({"Range": "bytes=0-3", "Accept-Encoding": "identity"}, 206),
        ({"Range": "bytes=9-3", "Accept-Encoding": "identity"}, 200),
        ({"Range": "bytes=0-3, 5-9", "Accept-Encoding": "identity"}, 200),
    ):
        response = client.get("/style.css", headers=headers)
        assert response.status_code == status, headers
        if status == 304:
            assert response.headers["vary"].startswith("Accept-Encoding")
    refused(
        client.get("/style.css", headers={"Range": "bytes=9999999-"}), 416, "range_not_satisfiable"
    )
    assert client.head("/style.css", headers={"Range": "bytes=0-3"}).status_code == 200


ENCODINGS = [
    ("gzip", True), ("GZIP", True), ("gzip, deflate, br", True), ("br;q=1.0, gzip;q=0.8", True),
    ("x-gzip", True), ("*", True), ("gzip;q=0.001", True), ("identity;q=0, gzip", True),
    ("gzip; q=0.5, *;q=0", True), ("identity;q=0, *", True), ("gzip;Q=1", True),
    ("*, identity;q=0.5", True),
    ("", False), ("identity", False), ("gzip;q=0", False), ("gzip; q=0.000", False),
    ("x-notgzip", False), ("gzipped", False), ("not-gzip", False), ("br", False), ("*;q=0", False),
    ("gzip;q=0, *", False), ("x-gzip;q=0, *", False), ("identity;q=1, *;q=0", False),
    ("identity, gzip;q=0.5", False), ("gzip;q=2", False), ("gzip;q=x", False), ("gzip;q=", False),
    ("identity;q=0", False), ("identity;q=0, *;q=0", False), ("gzip;Q=0", False), (";;,,=", False),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), ENCODINGS)
def test_gzip_is_sent_to_those_who_accept_it(
    client: httpx.Client, given: str, expected: bool
) -> None:
    assert accepts_gzip(Headers({"accept-encoding": given})) is expected
    with client.stream("GET", "/style.css", headers={"Accept-Encoding": given}) as response:
        raw = b"".join(response.iter_raw())
    assert (response.headers.get("content-encoding") == "gzip") is expected
    whole = client.get("/style.css", headers={"Accept-Encoding": "identity"}).content
    assert (gzip.decompress(raw) if expected else raw) == whole
    assert "Accept-Encoding" in response.headers["vary"]
    head = client.head("/style.css", headers={"Accept-Encoding": given}).headers
    for name in ("content-encoding", "etag", "content-type", "vary"):
        assert head.get(name) == response.headers.get(name)
    assert head.get("content-length") in (None, str(len(raw)))
    assert expected or "content-length" in head


def test_a_list_of_kilobytes_is_not_read() -> None:
    assert accepts_gzip(Headers({"accept-encoding": "gzip," * 100}))
    assert not accepts_gzip(Headers({"accept-encoding": "gzip," * 1000}))


def test_two_lines_of_accept_encoding_are_one_list() -> None:
    lines = [(b"accept-encoding", b"br"), (b"accept-encoding", b"gzip;q=0.5")]
    assert accepts_gzip(Headers(raw=lines)) and not accepts_gzip(Headers(raw=[]))


def test_behind_nginx_the_app_answers_what_nginx_would_answer_otherwise(serve: Serve) -> None:
    """nginx compares conditions with a time of its own, and gives a HEAD a range."""
    with httpx.Client(base_url=serve(accel_prefix="/protected").url, timeout=60) as client:
        address = f"/outputs/{ended(client, submit(client))['job_id']}/{NAME}"

        def answer(method: str, **headers: str) -> tuple[int, bool]:
            sent: Any = {name.replace("_", "-"): value for name, value in headers.items()}
            response = client.request(method, address, headers=sent)
            return response.status_code, "x-accel-redirect" in response.headers

        assert answer("GET") == answer("GET", Range="bytes=0-3") == (200, True)
        assert answer("GET", If_None_Match=OTHER) == (200, True)
        assert answer("GET", If_None_Match=TAG) == (304, False)
        assert answer("GET", If_Match=OTHER) == (412, False)
        assert answer("GET", If_Match=TAG, Range="bytes=0-3") == (206, False)
        assert answer("GET", If_Unmodified_Since=LONG_AGO) == (412, False)
        assert answer("GET", If_Modified_Since=FUTURE) == (304, False)
        assert answer("HEAD", Range="bytes=0-3") == (200, False)
