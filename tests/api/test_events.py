"""The event stream: the whole state first, then every change, then the end."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

import api.events
from job.task import Progress, Task
from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.api.test_submissions import refused
from tests.inline_executors import Events, WaitsForPermission
from tests.servers import ThreadServer
from tests.waiting import wait_until


def events(response: httpx.Response) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, id and body of each event."""
    found: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name] = value
        elif "data" in found:
            yield found["event"], found["id"], json.loads(found["data"])
            found = {}


def test_the_stream_of_an_ended_job_has_one_event(client: httpx.Client) -> None:
    body = ended(client, submit(client))
    with client.stream("GET", f"/jobs/{body['job_id']}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"
        assert list(events(response)) == [("done", "end", body)]


def test_a_reconnect_after_the_end_is_204(client: httpx.Client) -> None:
    job_id = ended(client, submit(client))["job_id"]
    response = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "end"})
    assert (response.status_code, response.content) == (204, b"")
    again = client.get(f"/jobs/{job_id}/events", headers={"Last-Event-ID": "3"})
    assert again.status_code == 200 and "event: done" in again.text


def test_a_job_is_followed_from_the_queue_to_its_end(
    serve: Serve, gate: WaitsForPermission
) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=30) as client:
        first, second = submit(client), submit(client)
        assert gate.started.wait(60)
        with client.stream("GET", f"/jobs/{second}/events") as response:
            stream = events(response)
            name, _, body = next(stream)
            assert (name, body["status"], body["queue_position"]) == ("progress", "queued", 0)
            gate.permission.set()
            seen = list(stream)
        assert seen[-1][0] == "done" and seen[-1][2]["status"] == "finished"
        assert all(name == "progress" for name, _, _ in seen[:-1])
        assert ended(client, first)["status"] == "finished"


def test_a_new_queue_position_is_an_event(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=30) as client:
        ids = [submit(client) for _ in range(3)]
        assert gate.started.wait(60)
        with client.stream("GET", f"/jobs/{ids[2]}/events") as response:
            stream = events(response)
            assert next(stream)[2]["queue_position"] == 1
            client.post(f"/jobs/{ids[1]}/cancel")
            assert next(stream)[2]["queue_position"] == 0


class ReportsOften(WaitsForPermission):
    """A hundred reports a second, until `permission` is set."""

    def attempt(self, task: Task) -> Events:
        """Between two reports the worker waits."""
        for k in itertools.count():
            if self.permission.is_set():
                break
            yield Progress("motion", k, 100_000, k / 100_000)
            yield None
        yield from super().attempt(task)


def test_at_most_four_events_a_second(serve: Serve) -> None:
    often = ReportsOften()
    with httpx.Client(base_url=serve(often).url, timeout=30) as client:
        job_id = submit(client)
        began = time.monotonic()
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            steps = []
            for name, _, body in events(response):
                if name == "progress" and body["status"] == "running":
                    steps.append(body["progress"]["step"])
                if len(steps) == 6:
                    often.permission.set()
            took_s = time.monotonic() - began
    assert 6 <= len(steps) <= 4 * took_s + 2 and steps[:6] == sorted(steps[:6])


def test_heartbeats_are_sent_without_events(
    serve: Serve, gate: WaitsForPermission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.events, "HEARTBEAT_S", 0.1)
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        job_id = submit(client)
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            assert next(line for line in lines if line.startswith(":")) == ": heartbeat"


def test_a_deleted_job_ends_its_stream(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        submit(client)
        assert gate.started.wait(60)
        job_id = submit(client)
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            stream = events(response)
            next(stream)
            assert httpx.delete(f"{server.url}/jobs/{job_id}", timeout=60).status_code == 200
            list(stream)
        refused(client.get(f"/jobs/{job_id}/events"), 404, "job_not_found")


def test_streams_and_long_polls_do_not_delay_a_stop(serve: Serve, gate: WaitsForPermission) -> None:
    server = serve(gate)
    with httpx.Client(base_url=server.url, timeout=20) as client:
        job_id = submit(client)
        assert gate.started.wait(60)
        statuses: list[str] = []

        def wait_for_it() -> None:
            reply = httpx.get(f"{server.url}/jobs/{job_id}?wait=50", timeout=60)
            statuses.append(reply.json()["status"])

        helper = threading.Thread(target=wait_for_it)
        helper.start()
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            stream = events(response)
            next(stream)
            server.state.drain()
            list(stream)
        helper.join(60)
        assert statuses == ["running"]


def test_closed_streams_leave_no_watchers(quick: ThreadServer, client: httpx.Client) -> None:
    job_id = submit(client)
    for _ in range(3):
        with client.stream("GET", f"/jobs/{job_id}/events") as response:
            next(events(response))
    ended(client, job_id)
    wait_until(lambda: not quick.state.changes.watchers)


def test_an_unknown_job_has_no_events(client: httpx.Client) -> None:
    refused(client.get(f"/jobs/{uuid4()}/events"), 404, "job_not_found")
    assert client.head(f"/jobs/{uuid4()}/events").status_code == 405
