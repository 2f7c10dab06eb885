"""Running a job again, and sending a request again: one makes a new job, the other does not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import Gpu, PipelineChoice
from tests.api.bodies import MULTIPART, ended, frames_zip, multipart, part, send, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused, staged
from tests.inline_executors import (
    FindsNoSubject,
    FinishesAtOnce,
    WaitsForPermission,
)
from tests.servers import ThreadServer, quick_settings, thread_server

# --- retry


def test_a_retry_is_a_new_job_from_the_stored_video(serve: Serve) -> None:
    executor = FinishesAtOnce()
    server = serve(executor)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        old = ended(client, submit(client, seed="5"))
        response = client.post(f"/jobs/{old['job_id']}/retry", json={"mode": "fast", "fps": 20})
        assert response.status_code == 202
        body = response.json()
        assert set(body) == {"job_id", "status"} and body["job_id"] != old["job_id"]
        assert response.headers["location"] == f"/jobs/{body['job_id']}"
        new = ended(client, body["job_id"])
        assert client.get(f"/jobs/{old['job_id']}").json() == old
        assert client.delete(f"/jobs/{old['job_id']}").status_code == 200
    assert new["status"] == "finished" and new["retry_of"] == old["job_id"]
    assert (new["mode"], new["input"]["fps"], new["input"]["seed"]) == ("fast", 20.0, 5)
    assert new["input"]["filename"] == old["input"]["filename"]
    assert (executor.tasks[1].folder / "input").read_bytes() == frames_zip()


def test_each_pipeline_takes_its_own_number_of_frames(serve: Serve) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        sent = send(client, frames_zip(40), {"max_frames": "121"})
        old = ended(client, sent.json()["job_id"])
        gpu = Gpu("a test's GPU", 80.0)
        server.state.first_choice = PipelineChoice("actionmesh", "a test", gpu)
        again = client.post(f"/jobs/{old['job_id']}/retry", json={})
        new = ended(client, again.json()["job_id"])
        limits = client.get("/info").json()["limits"]
    used = [(job["pipeline"], job["input"]["used_frames"]) for job in (old, new)]
    assert used == [("silhouette", 40), ("actionmesh", 31)]
    assert limits["frame_step"] == 15


def test_a_silhouette_has_one_try(serve: Serve) -> None:
    executor = FinishesAtOnce()
    with httpx.Client(base_url=serve(executor).url, timeout=60) as client:
        job = ended(client, submit(client, tries="8"))
        assert job["options"]["tries"] == executor.tasks[0].options.tries == 1
        again = client.post(f"/jobs/{job['job_id']}/retry", json={"tries": 2})
        assert ended(client, again.json()["job_id"])["options"]["tries"] == 1
        assert refused(send(client, fields={"tries": "9"}), 422, "invalid_parameter")


def test_a_retry_can_choose_another_subject(serve: Serve) -> None:
    executor = FinishesAtOnce()
    with httpx.Client(base_url=serve(executor).url, timeout=60) as client:

        def retry(job: dict[str, Any], **changes: Any) -> dict[str, Any]:
            sent = client.post(f"/jobs/{job['job_id']}/retry", json=changes)
            return ended(client, sent.json()["job_id"])

        def choice(job: dict[str, Any]) -> tuple[str | None, str | None]:
            return job["options"]["subject_box"], job["options"]["subject_point"]

        first = ended(client, submit(client, subject_box=" 0.10, .2,0.5,0.9 "))
        assert choice(first) == ("0.1,0.2,0.5,0.9", None)
        again = retry(first, seed=7, subject_box="", subject_point=None)
        assert choice(again) == choice(first)
        point = retry(again, subject_point="0.7,0.5")
        assert choice(point) == (None, "0.7,0.5")
        assert choice(retry(point, start=0.0)) == (None, "0.7,0.5")
        none = retry(point, subject_box="0,0,1,1")
        assert executor.tasks[-1].options.subject_choice is None
        assert choice(none) == ("0,0,1,1", None)


def test_a_subject_is_chosen_in_the_pictures_that_the_job_used(serve: Serve) -> None:
    executor = FinishesAtOnce()
    executor.used_from = 0.25  # as where the first seconds show no subject
    with httpx.Client(base_url=serve(executor).url, timeout=60) as client:
        sent = send(client, frames_zip(24), {"max_frames": "16"})
        first = ended(client, sent.json()["job_id"])
        for changes, start in (
            ({"subject_box": "0.1,0.1,0.9,0.9"}, 0.25),
            ({"subject_point": "0.5,0.5", "start": None}, 0.25),
            ({"subject_point": "0.5,0.5", "start": 0.0}, 0.0),
            ({"subject_box": "0,0,1,1"}, 0.0),
            ({"seed": 7}, 0.0),
        ):
            sent = client.post(f"/jobs/{first['job_id']}/retry", json=changes)
            assert ended(client, sent.json()["job_id"])["options"]["start"] == start, changes


def test_a_retry_needs_no_body(serve: Serve) -> None:
    with httpx.Client(base_url=serve(FindsNoSubject()).url, timeout=60) as client:
        old = ended(client, submit(client))
        assert old["status"] == "error"
        response = client.post(f"/jobs/{old['job_id']}/retry")
        assert ended(client, response.json()["job_id"])["error_code"] == "no_subject_found"


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        ({"mod": "fast"}, {}, 422, "invalid_parameter"),
        ({"max_frames": 99}, {}, 422, "invalid_parameter"),
        ({"video_url": "http://a.test/"}, {}, 422, "invalid_parameter"),
        ([], {}, 400, "malformed_request"),
        ({"start": 3600}, {}, 422, "video_too_short"),
        ({"subject_box": "0.5,0,0.4,1"}, {}, 422, "invalid_parameter"),
        ({"subject_box": "0,0,1,1", "subject_point": "0,0"}, {}, 422, "invalid_parameter"),
        ({}, {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"x": "y" * 70_000}, {}, 413, "upload_too_large"),
    ],
)
def test_a_wrong_retry_is_refused(
    client: httpx.Client,
    quick: ThreadServer,
    body: Any,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    old = ended(client, submit(client))
    response = client.post(f"/jobs/{old['job_id']}/retry", json=body, headers=headers)
    refused(response, status, code)
    assert staged(quick) == []


def test_a_job_under_way_cannot_be_retried(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        job_id = submit(client)
        refused(client.post(f"/jobs/{job_id}/retry"), 409, "job_not_finished")


def test_a_video_that_was_not_kept_cannot_be_retried(
    client: httpx.Client, quick: ThreadServer
) -> None:
    old = ended(client, submit(client))
    (quick.jobs_dir / old["job_id"] / "input").unlink()
    refused(client.post(f"/jobs/{old['job_id']}/retry"), 410, "job_expired")
    assert staged(quick) == []


def test_a_failed_download_is_tried_again(client: httpx.Client) -> None:
    response = client.post("/jobs", json={"video_url": "https://nowhere.invalid/clip.mp4"})
    old = ended(client, response.json()["job_id"])
    assert old["error_code"] == "url_fetch_failed"
    again = client.post(f"/jobs/{old['job_id']}/retry")
    assert again.status_code == 202
    assert ended(client, again.json()["job_id"])["error_code"] == "url_fetch_failed"


# --- Idempotency-Key


def keyed(client: httpx.Client, key: str, **fields: str) -> httpx.Response:
    files = {"file": ("walk.zip", frames_zip())}
    return client.post("/jobs", files=files, data=fields, headers={"Idempotency-Key": key})


def jobs_of(server: ThreadServer) -> int:
    return len(server.state.store.ended()) + len(server.state.store.live())


def test_the_same_request_again_returns_the_same_job(serve: Serve) -> None:
    server = serve()
    with httpx.Client(base_url=server.url, timeout=60) as client:
        first = keyed(client, "one")
        ended(client, first.json()["job_id"])
        again = keyed(client, "one")
        assert again.status_code == 202 and again.json() == first.json()
        assert again.headers["idempotency-replayed"] == "true"
        assert "idempotency-replayed" not in first.headers
        assert again.headers["location"] == first.headers["location"]
        other = keyed(client, "two")
        assert other.json()["job_id"] != first.json()["job_id"]
    assert jobs_of(server) == 2 and staged(server) == []


def test_a_key_belongs_to_one_request(client: httpx.Client, quick: ThreadServer) -> None:
    assert keyed(client, "mine").status_code == 202
    refused(keyed(client, "mine", mode="fast"), 422, "idempotency_key_reused")
    shorter = frames_zip(17)
    response = client.post(
        "/jobs", files={"file": ("walk.zip", shorter)}, headers={"Idempotency-Key": "mine"}
    )
    refused(response, 422, "idempotency_key_reused")
    assert staged(quick) == []


def test_after_a_failed_request_its_key_can_be_used_again(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "again"}
    files = {"file": ("x.mp4", b"no video")}
    assert client.post("/jobs", files=files, headers=headers).status_code == 415
    assert keyed(client, "again").status_code == 202


def test_a_full_queue_still_answers_a_repeated_request(
    serve: Serve, gate: WaitsForPermission
) -> None:
    with httpx.Client(base_url=serve(gate, max_queue=1).url, timeout=60) as client:
        submit(client)
        assert gate.started.wait(60)
        first = keyed(client, "k")
        refused(keyed(client, "other"), 503, "queue_full")
        assert keyed(client, "k").json() == first.json()


def test_a_request_in_progress_is_409(client: httpx.Client, quick: ThreadServer) -> None:
    body = multipart(part("file", frames_zip(), "walk.zip"))
    head_sent, go_on = threading.Event(), threading.Event()

    def slowly() -> Any:
        yield body[:100]
        head_sent.set()
        go_on.wait(60)
        yield body[100:]

    replies: list[httpx.Response] = []
    headers = {**MULTIPART, "Idempotency-Key": "slow"}

    def send_slowly() -> None:
        replies.append(
            httpx.post(f"{quick.url}/jobs", content=slowly(), headers=headers, timeout=60)
        )

    helper = threading.Thread(target=send_slowly)
    helper.start()
    try:
        assert head_sent.wait(60)
        while not quick.state.keys_in_progress:
            pass
        response = keyed(client, "slow")
        refused(response, 409, "idempotency_in_progress")
        assert int(response.headers["retry-after"]) >= 1
    finally:
        go_on.set()
        helper.join(60)
    assert replies[0].status_code == 202
    assert quick.state.keys_in_progress == set()


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_wrong_key_is_refused(client: httpx.Client, key: str) -> None:
    refused(keyed(client, key), 422, "invalid_parameter")


def test_a_key_is_kept_after_a_restart_but_not_after_its_job(tmp_path: Path) -> None:
    settings = quick_settings(tmp_path / "jobs")
    with thread_server(settings.jobs_dir, FinishesAtOnce(), settings) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            job_id = keyed(client, "kept").json()["job_id"]
            ended(client, job_id)
    gate = WaitsForPermission()
    with thread_server(settings.jobs_dir, gate, settings) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert keyed(client, "kept").json()["job_id"] == job_id
            live = keyed(client, "live").json()["job_id"]
            gate.closed.set()
    with thread_server(settings.jobs_dir, FinishesAtOnce(), settings) as server:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert keyed(client, "live").json()["job_id"] == live
            client.delete(f"/jobs/{job_id}")
            assert keyed(client, "kept").json()["job_id"] != job_id


def test_a_retry_can_have_a_key(client: httpx.Client) -> None:
    old = ended(client, submit(client))
    address, headers = f"/jobs/{old['job_id']}/retry", {"Idempotency-Key": "retry"}
    first = client.post(address, headers=headers, json={"seed": 1})
    again = client.post(address, headers=headers, json={"seed": 1})
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    other = client.post(address, headers=headers, json={"seed": 2})
    refused(other, 422, "idempotency_key_reused")


def test_keys_are_stored_as_hashes_only(client: httpx.Client, quick: ThreadServer) -> None:
    job_id = keyed(client, "a-very-telling-key").json()["job_id"]
    record = (quick.jobs_dir / job_id / "job.json").read_text()
    assert "a-very-telling-key" not in record and '"idempotency":{"key":"' in record


def test_without_a_key_every_request_makes_a_job(client: httpx.Client) -> None:
    assert send(client).json()["job_id"] != send(client).json()["job_id"]
