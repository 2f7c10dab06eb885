"""The body of a job in each status; waiting for, cancelling and deleting jobs."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from api.schemas import JobBody
from settings import Settings
from tests.api.bodies import ended, frames_zip, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused
from tests.inline_executors import FindsNoSubject, FinishesAtOnce, LosesWorkers, WaitsForPermission
from tests.servers import ThreadServer, thread_server
from tests.waiting import wait_until


def keys_are_documented(body: dict[str, Any]) -> None:
    """Every key of the body is in the OpenAPI model, and the values fit it."""
    JobBody.model_validate(body, strict=True)
    assert set(body) <= set(JobBody.model_fields)


# --- each state


def test_a_finished_job_has_the_keys_of_the_readme(client: httpx.Client) -> None:
    job_id = submit(client, mode="fast")
    body = ended(client, job_id)
    keys_are_documented(body)
    assert body["job_id"] == job_id and body["status"] == "finished" and body["mode"] == "fast"
    base = f"/outputs/{job_id}"
    assert body["outputs"] == {
        "per_frame_meshes": [f"{base}/mesh_000.glb", f"{base}/mesh_001.glb"],
        "animated_mesh": f"{base}/animated_mesh.glb",
        "preview_video": f"{base}/preview.mp4",
        "archive": f"{base}/meshes.zip",
        "poster": f"{base}/poster.webp",
        "source_video": f"{base}/source.mp4",
    }
    assert body["input"] == {
        "filename": "walk.zip", "bytes": len(frames_zip()), "width": 32, "height": 32,
        "source_fps": None, "source_frames": 16, "used_frames": 16, "fps": 12.0, "seed": 44,
    }  # fmt: skip
    assert {"queued", "motion", "total"} <= set(body["timings"])
    assert body["mesh"]["timesteps"] == 2 and body["warnings"] == []
    assert body["created_at"].endswith("Z") and body["finished_at"].endswith("Z")
    assert body["expires_at"] is None
    assert "queue_position" not in body and "error" not in body


def test_a_job_that_expires_says_when(serve: Serve) -> None:
    with httpx.Client(base_url=serve(job_ttl_hours=48.0).url, timeout=60) as client:
        body = ended(client, submit(client))
    assert body["expires_at"][:10] > body["finished_at"][:10]


def test_queued_and_running_jobs_show_their_position(
    serve: Serve, gate: WaitsForPermission
) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        ids = [submit(client) for _ in range(3)]
        assert gate.started.wait(60)
        running, first, second = (client.get(f"/jobs/{job_id}").json() for job_id in ids)
    for body in (running, first, second):
        keys_are_documented(body)
        assert "outputs" not in body
    assert running["status"] == "running" and running["attempt"] == 1
    assert running["progress"]["stage"] == "shape" and running["progress"]["percent"] == 25.0
    assert (first["status"], first["queue_position"]) == ("queued", 0)
    assert (second["status"], second["queue_position"]) == ("queued", 1)


def test_a_failed_job_says_why_in_a_string(serve: Serve) -> None:
    with httpx.Client(base_url=serve(FindsNoSubject()).url, timeout=60) as client:
        body = ended(client, submit(client))
    keys_are_documented(body)
    assert body["status"] == "error" and body["error"] == "No subject was found in frame 0."
    assert body["error_code"] == "no_subject_found" and body["retryable"] is False
    assert body["error_hint"] and "outputs" not in body


def test_a_job_that_loses_all_attempts_fails(serve: Serve) -> None:
    with httpx.Client(base_url=serve(LosesWorkers(9)).url, timeout=60) as client:
        body = ended(client, submit(client))
    assert body["error_code"] == "worker_crashed" and body["retryable"] is True


@pytest.mark.parametrize("job_id", [str(UUID(int=1)), "x", "%2e%2e%2f", "a" * 5000, "é"])
def test_an_unknown_job_is_404(client: httpx.Client, job_id: str) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        response = client.request(method, f"/jobs/{job_id}{path}")
        assert response.status_code in (404, 405) and "code" in response.json()
    assert client.get(f"/jobs/{uuid4()}").json()["code"] == "job_not_found"


def test_an_expired_job_is_410(client: httpx.Client, quick: ThreadServer) -> None:
    job_id = submit(client)
    ended(client, job_id)
    quick.state.store.delete(job_id, expired=True)
    refused(client.get(f"/jobs/{job_id}"), 410, "job_expired")
    refused(client.get(f"/outputs/{job_id}/mesh_000.glb"), 410, "job_expired")


# --- 304 and waiting


def test_an_unchanged_job_is_304(client: httpx.Client) -> None:
    job_id = submit(client)
    ended(client, job_id)
    first = client.get(f"/jobs/{job_id}")
    assert first.headers["etag"].startswith('W/"')
    again = client.get(f"/jobs/{job_id}", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    strong = {"If-None-Match": first.headers["etag"].removeprefix("W/")}
    assert client.get(f"/jobs/{job_id}", headers=strong).status_code == 304
    other = client.get(f"/jobs/{job_id}", headers={"If-None-Match": 'W/"0"'})
    assert other.status_code == 200


def test_a_new_queue_position_changes_the_etag(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        ids = [submit(client) for _ in range(3)]
        assert gate.started.wait(60)
        tag = client.get(f"/jobs/{ids[2]}").headers["etag"]
        same = client.get(f"/jobs/{ids[2]}", headers={"If-None-Match": tag})
        assert same.status_code == 304 and "retry-after" in same.headers
        client.post(f"/jobs/{ids[1]}/cancel")
        moved = client.get(f"/jobs/{ids[2]}", headers={"If-None-Match": tag})
    assert moved.status_code == 200 and moved.json()["queue_position"] == 0


def test_waiting_ends_with_the_job(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        job_id = submit(client)
        assert gate.started.wait(60)

        def let_it_finish() -> None:
            wait_until(lambda: job_id in server.state.changes.watchers)
            gate.permission.set()

        helper = threading.Thread(target=let_it_finish)
        helper.start()
        body = client.get(f"/jobs/{job_id}", params={"wait": 55}).json()
        helper.join()
    assert body["status"] == "finished"


def test_waiting_is_woken_by_a_change(serve: Serve, gate: WaitsForPermission) -> None:
    """Without a wake-up the client would time out before the wait is over."""
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=50) as client:
        submit(client)
        assert gate.started.wait(60)
        queued = submit(client)

        def cancel() -> None:
            wait_until(lambda: queued in server.state.changes.watchers)
            server.state.worker.cancel(queued)

        helper = threading.Thread(target=cancel)
        helper.start()
        assert client.get(f"/jobs/{queued}?wait=55").json()["status"] == "cancelled"
        helper.join()


def test_waiting_ends_when_the_time_is_over(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        job_id = submit(client)
        began = time.monotonic()
        body = client.get(f"/jobs/{job_id}", params={"wait": 0.3}).json()
        assert body["status"] in ("queued", "running")
        assert time.monotonic() - began >= 0.3


def test_waiting_for_a_job_that_is_deleted_is_404(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        submit(client)
        job_id = submit(client)
        statuses: list[int] = []

        def wait_for_it() -> None:
            statuses.append(
                httpx.get(f"{server.url}/jobs/{job_id}?wait=30", timeout=30).status_code
            )

        helper = threading.Thread(target=wait_for_it)
        helper.start()
        wait_until(lambda: job_id in server.state.changes.watchers)
        assert client.delete(f"/jobs/{job_id}").status_code == 200
        helper.join(60)
    # it may see the cancelled job for a moment before that is deleted
    assert statuses in ([404], [200])


@pytest.mark.parametrize("wait", ["-1", "x", "nan", ""])
def test_a_wrong_wait_is_refused(client: httpx.Client, wait: str) -> None:
    refused(client.get(f"/jobs/{uuid4()}", params={"wait": wait}), 422, "invalid_parameter")


# --- cancel and delete, in each state


def test_a_queued_job_is_cancelled_at_once(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        running, queued = submit(client), submit(client)
        assert gate.started.wait(60)
        response = client.post(f"/jobs/{queued}/cancel")
        assert response.status_code == 200
        assert response.json() == {"job_id": queued, "status": "cancelled"}
        keys_are_documented(client.get(f"/jobs/{queued}").json())
        again = refused(client.post(f"/jobs/{queued}/cancel"), 409, "already_finished")
        assert again["job_status"] == "cancelled"
        assert client.get(f"/jobs/{running}").json()["status"] == "running"


def test_a_running_job_is_cancelled_and_the_next_one_runs(
    serve: Serve, gate: WaitsForPermission
) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=30) as client:
        running, queued = submit(client), submit(client)
        assert gate.started.wait(60)
        response = client.post(f"/jobs/{running}/cancel")
        assert response.status_code == 202
        assert response.json() == {
            "job_id": running, "status": "running", "cancel_requested": True,
        }  # fmt: skip
        assert ended(client, running)["status"] == "cancelled"
        gate.permission.set()
        assert ended(client, queued)["status"] == "finished"


def test_a_finished_job_cannot_be_cancelled(client: httpx.Client) -> None:
    job_id = submit(client)
    ended(client, job_id)
    body = refused(client.post(f"/jobs/{job_id}/cancel"), 409, "already_finished")
    assert body["job_status"] == "finished"


@pytest.mark.parametrize("state", ["queued", "running", "finished"])
def test_a_job_is_deleted_in_any_state(serve: Serve, gate: WaitsForPermission, state: str) -> None:
    server = serve(FinishesAtOnce() if state == "finished" else gate)
    with httpx.Client(base_url=server.url, timeout=30) as client:
        job_id = submit(client)
        if state == "finished":
            ended(client, job_id)
        else:
            assert gate.started.wait(60)
        if state == "queued":
            job_id = submit(client)
        response = client.delete(f"/jobs/{job_id}")
        assert response.status_code == 200
        assert response.json() == {"status": "deleted", "job_id": job_id}
        refused(client.delete(f"/jobs/{job_id}"), 404, "job_not_found")
        refused(client.get(f"/jobs/{job_id}"), 404, "job_not_found")
        refused(client.get(f"/outputs/{job_id}/meshes.zip"), 404, "job_not_found")
        wait_until(lambda: not any((server.jobs_dir / ".trash").iterdir()))
        assert not (server.jobs_dir / job_id).exists()


def test_jobs_survive_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    jobs_dir = tmp_path_factory.mktemp("restart") / "jobs"
    gate = WaitsForPermission()
    with (
        thread_server(jobs_dir, gate) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        ids = [submit(client) for _ in range(3)]
        assert gate.started.wait(60)
    with thread_server(jobs_dir, FinishesAtOnce()) as server:
        assert isinstance(server.state.settings, Settings)
        with httpx.Client(base_url=server.url, timeout=30) as client:
            for job_id in ids:
                assert ended(client, job_id)["status"] == "finished"
