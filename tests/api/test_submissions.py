"""POST /jobs: what is accepted, what is refused with which code; no files are left."""

from __future__ import annotations

import json
import os
import re
import socket
from itertools import chain
from typing import Any

import httpx
import pytest

from job.options import JobOptions
from tests.api.bodies import (
    MULTIPART,
    ended,
    frames_zip,
    multipart,
    part,
    send,
    submit,
)
from tests.api.conftest import Serve
from tests.inline_executors import FinishesAtOnce, WaitsForPermission
from tests.servers import ThreadServer
from tests.waiting import wait_until

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, its form checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["code"] == code and body["status"] == status
    assert isinstance(body["detail"], str) and body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["type"] == f"/docs#{code}"
    return body


def answer_of(peer: socket.socket) -> bytes:
    """A whole reply with a problem document: head and body may come one by one."""
    answer = b""
    while not answer.endswith(b"}"):
        more = peer.recv(65_536)
        assert more, answer
        answer += more
    return answer


def staged(server: ThreadServer) -> list[str]:
    return [path.name for path in (server.jobs_dir / ".staging").iterdir()]


# --- accepted


def test_the_reply_has_exactly_two_keys(client: httpx.Client) -> None:
    response = send(client)
    assert response.status_code == 202
    body = response.json()
    assert set(body) == {"job_id", "status"} and body["status"] == "queued"
    assert UUID4.fullmatch(body["job_id"])
    assert response.headers["location"] == f"/jobs/{body['job_id']}"
    assert 1 <= int(response.headers["retry-after"]) <= 10


def test_options_arrive_at_the_executor(serve: Serve) -> None:
    executor = FinishesAtOnce()
    server = serve(executor)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = submit(
            client, mode="fast", seed="7", start="0", fps="10", max_frames="16",
            blender_export="true", formats="npz",
        )  # fmt: skip
        assert ended(client, job_id)["status"] == "finished"
    task = executor.tasks[0]
    assert task.options == JobOptions(
        mode="fast", seed=7, fps=10.0, max_frames=16, blender_export=True, formats=("npz",)
    )
    assert task.container == "zip"
    assert (task.folder / "input").read_bytes() == frames_zip()


def test_empty_fields_count_as_not_given(client: httpx.Client) -> None:
    job_id = submit(client, mode="", fps="", video_url="")
    assert client.get(f"/jobs/{job_id}").json()["options"]["fps"] is None


@pytest.mark.parametrize("name", ["../../x.zip", "C:\\x.zip", 'a".zip', "é😀.zip", "x" * 400, ""])
def test_a_file_name_is_never_used_as_a_path(
    client: httpx.Client, quick: ThreadServer, name: str
) -> None:
    body = multipart(part("file", frames_zip(), name.replace('"', '\\"')))
    response = client.post("/jobs", content=body, headers=MULTIPART)
    job_id = response.json()["job_id"]
    shown = client.get(f"/jobs/{job_id}").json()["input"]["filename"]
    assert shown and len(shown.encode()) <= 255 and "/" not in shown and "\\" not in shown
    # os.walk skips folders that vanish meanwhile: the job may already run
    names = {name for _, *both in os.walk(quick.jobs_dir / job_id) for name in chain(*both)}
    assert names and shown not in names


def test_a_part_without_a_file_name_is_a_file(client: httpx.Client) -> None:
    response = client.post(
        "/jobs", content=multipart(part("file", frames_zip())), headers=MULTIPART
    )
    assert response.status_code == 202


# --- refused


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"mode": "fastt"}, "invalid_parameter", "mode"),
        ({"mod": "fast"}, "invalid_parameter", "Did you mean `mode`?"),
        ({"seed": "-1"}, "invalid_parameter", "4294967295"),
        ({"seed": "4294967296"}, "invalid_parameter", "seed"),
        ({"seed": "1.5"}, "invalid_parameter", "seed"),
        ({"start": "-0.1"}, "invalid_parameter", "start"),
        ({"start": "nan"}, "invalid_parameter", "start"),
        ({"start": "1e999"}, "invalid_parameter", "start"),
        ({"fps": "0.5"}, "invalid_parameter", "from 1 to 60"),
        ({"fps": "61"}, "invalid_parameter", "from 1 to 60"),
        ({"max_frames": "15"}, "invalid_parameter", "from 16 to 121"),
        ({"max_frames": "122"}, "invalid_parameter", "from 16 to 121"),
        ({"blender_export": "maybe"}, "invalid_parameter", "true or false"),
        ({"formats": "obj"}, "invalid_parameter", "usdz"),
        ({"subject_box": "0.1,0.2,0.3"}, "invalid_parameter", "not 3"),
        ({"subject_box": "0.6,0,0.4,1"}, "invalid_parameter", "left is 0.6 and its right 0.4"),
        ({"subject_point": "0.5,2"}, "invalid_parameter", "y is 2, outside the picture"),
        (
            {"subject_box": "0,0,1,1", "subject_point": "0,0"},
            "invalid_parameter",
            "only one of them",
        ),
        ({"mesh": "x"}, "mode_unavailable", "mesh"),
        ({"video_url": "http://localhost/x"}, "both_inputs", "video_url"),
        ({"webhook_url": "http://localhost/x"}, "url_not_allowed", "private"),
    ],
)
def test_a_wrong_field_is_named(
    client: httpx.Client, quick: ThreadServer, fields: dict[str, str], code: str, words: str
) -> None:
    status = 400 if code == "both_inputs" else 422
    assert words in refused(send(client, fields=fields), status, code)["detail"]
    assert staged(quick) == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "missing_input"),
        (b"{}", 400, "missing_input"),
        (b"{", 400, "malformed_request"),
        (b"[]", 400, "malformed_request"),
        (b"\xff\xfe", 400, "malformed_request"),
        (b"NaN", 400, "malformed_request"),
        (b'{"start": NaN}', 400, "malformed_request"),
        (b"[" * 60_000, 400, "malformed_request"),
        (b'{"seed": ' + b"9" * 5000 + b"}", 400, "malformed_request"),
        (b'{"video_url": "http://a.test/\\ud800"}', 400, "malformed_request"),
        (b'{"seed": true, "video_url": "http://a.test/"}', 422, "invalid_parameter"),
        (b'{"mode": ["fast"], "video_url": "http://a.test/"}', 422, "invalid_parameter"),
        (b'{"start": {}, "video_url": "http://a.test/"}', 422, "invalid_parameter"),
        (b'{"video_url": 7}', 422, "invalid_parameter"),
        (b'{"seed": 1, "seed": 1}', 422, "invalid_parameter"),
        (b'{"file": "AAAA"}', 422, "invalid_parameter"),
        (b'{"video_url": "http://10.0.0.1/"}', 422, "url_not_allowed"),
        (b'{"video_url": "file:///etc/passwd"}', 422, "url_not_allowed"),
        (b'{"a": "' + b"x" * 65_536 + b'"}', 413, "upload_too_large"),
    ],
)
def test_a_wrong_json_body_is_refused(
    client: httpx.Client, quick: ThreadServer, body: bytes, status: int, code: str
) -> None:
    response = client.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    if body == b"":
        assert response.json()["code"] in ("missing_input", "malformed_request")
    else:
        refused(response, status, code)
    assert staged(quick) == []


@pytest.mark.parametrize(
    ("content_type", "body", "status", "code"),
    [
        (None, b"", 400, "missing_input"),
        ("text/plain", b"x", 415, "unsupported_media_type"),
        ("application/octet-stream", b"x", 415, "unsupported_media_type"),
        ("multipart/form-data", b"x", 400, "malformed_request"),
        ("multipart/form-data; boundary=", b"x", 400, "malformed_request"),
        ("multipart/form-data; boundary=" + "b" * 300, b"x", 400, "malformed_request"),
        ("multipart/mixed; boundary=b", b"x", 415, "unsupported_media_type"),
        ("application/x-www-form-urlencoded", b"mode", 400, "malformed_request"),
        ("application/x-www-form-urlencoded", b"mode=fast", 400, "missing_input"),
        ("application/x-www-form-urlencoded", b"mode=%ff", 400, "malformed_request"),
        ("application/x-www-form-urlencoded", b"seed=1&seed=2", 422, "invalid_parameter"),
        ("application/x-www-form-urlencoded", b"video_url=http://[::1]/", 422, "url_not_allowed"),
    ],
)
def test_a_wrong_kind_of_body_is_refused(
    client: httpx.Client, content_type: str | None, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    refused(client.post("/jobs", content=body, headers=headers), status, code)


def test_a_clip_that_is_too_short_is_refused_with_its_length(client: httpx.Client) -> None:
    body = refused(send(client, frames_zip(15)), 422, "video_too_short")
    assert (body["frames"], body["min_frames"]) == (15, 16)


def test_a_file_that_is_not_a_video_is_refused(client: httpx.Client, quick: ThreadServer) -> None:
    body = refused(send(client, b"%PDF-1.7" + b"\0" * 200), 415, "unsupported_media_type")
    assert "mp4" in body["formats"]
    assert staged(quick) == []


def test_two_files_are_refused(client: httpx.Client) -> None:
    twice = multipart(part("file", b"x", "a"), part("file", b"x", "b"))
    refused(client.post("/jobs", content=twice, headers=MULTIPART), 400, "both_inputs")


def test_a_form_with_an_empty_file_field_has_no_input(client: httpx.Client) -> None:
    body = multipart(part("file", b"", ""))
    refused(client.post("/jobs", content=body, headers=MULTIPART), 400, "missing_input")


# --- the queue


def test_a_full_queue_refuses_before_the_body_is_read(
    serve: Serve, gate: WaitsForPermission
) -> None:
    server = serve(gate, max_queue=1)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        submit(client)
        assert gate.started.wait(60)
        submit(client)
        assert server.state.worker.queue.ids()
        with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as peer:
            # only the head: an answer proves that the server did not wait for the body
            head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
            head += f"Content-Type: {MULTIPART['Content-Type']}\r\n\r\n"
            peer.sendall(head.encode())
            peer.settimeout(60)
            answer = answer_of(peer)
    assert answer.startswith(b"HTTP/1.1 503")
    assert b'"code":"queue_full"' in answer and b"retry-after:" in answer.lower()


def test_a_refused_upload_releases_its_place(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate, max_queue=1)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        submit(client)
        assert gate.started.wait(60)
        for _ in range(3):
            refused(send(client, b"no video"), 415, "unsupported_media_type")
        submit(client)  # the one place is still free


def test_a_full_disk_refuses_uploads(serve: Serve) -> None:
    server = serve(min_free_gb=1e9)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        body = refused(send(client), 507, "insufficient_storage")
        assert body["needed_bytes"] > body["free_bytes"]
        assert client.get("/ready").json() == {"ready": False, "reason": "disk_full"}
    assert staged(server) == []


def test_a_draining_server_takes_no_jobs(serve: Serve) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        server.state.drain()
        response = send(client)
        refused(response, 503, "draining")
        assert int(response.headers["retry-after"]) >= 1
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "draining")


def test_too_many_uploads_at_once_are_refused(serve: Serve) -> None:
    server = serve(max_uploads=1)
    port = int(server.url.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port)) as slow,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        head = "POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n"
        slow.sendall(f"{head}Content-Type: {MULTIPART['Content-Type']}\r\n\r\n".encode())
        slow.sendall(part("file", b"", "x")[:-2])
        wait_until(lambda: staged(server))
        refused(send(client), 503, "too_many_uploads")
    wait_until(lambda: not staged(server))


# --- video_url


def test_a_video_url_job_waits_for_its_video(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        url = "https://nowhere.invalid/clip.mp4?token=secret"
        response = client.post("/jobs", json={"video_url": url, "seed": 5})
        assert response.status_code == 202
        job_id = response.json()["job_id"]
        body = ended(client, job_id)
        assert body["status"] == "error" and body["error_code"] == "url_fetch_failed"
        assert body["retryable"] is True
        assert "secret" not in json.dumps(body)
        assert body["options"]["video_url"] == "https://nowhere.invalid/clip.mp4"
        # its place in the queue is free again
        assert server.state.worker.queue.ids() == []


def test_video_urls_can_be_switched_off(serve: Serve) -> None:
    server = serve(allow_video_url=False)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        response = client.post("/jobs", json={"video_url": "https://example.com/clip.mp4"})
        refused(response, 422, "url_not_allowed")
