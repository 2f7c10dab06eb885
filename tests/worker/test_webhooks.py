"""Webhooks: signed, sent at least once with one id, even if the server is killed meanwhile."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from job.folder import JobsFolder
from job.options import JobOptions
from job.state import Job
from job_store import JobStore
from settings import Settings
from tests.job_factory import accept
from tests.servers import process_server
from tests.waiting import wait_until
from worker.webhooks import Webhooks, signed_headers

SECRET = "whsec_" + base64.b64encode(b"a key of the test").decode()


class Receiver:
    """A real HTTP server that answers the given statuses one after another, then 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.hold = threading.Event()
        self.hold.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
                receiver.hold.wait(30)
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook?token=secret"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore(JobsFolder(tmp_path / "jobs"))
    opened.open()
    yield opened
    opened.close()


def webhooks(store: JobStore, **settings: object) -> Webhooks:
    return Webhooks(
        store,
        store.folder,
        Settings(webhook_secret=SECRET, **{"allow_private_urls": True, **settings}),  # type: ignore[arg-type]
        lambda job: json.dumps({"job_id": job.job_id, "status": job.status.value}).encode(),
        retry_after_s=(0.01, 0.01),
    )


def job_with_webhook(store: JobStore, url: str) -> Job:
    return accept(store, options=JobOptions(mode="default", webhook_url=url))


def deliver(store: JobStore, hooks: Webhooks, job_id: str) -> None:
    """End the job and wait until the delivery is over."""

    async def run() -> None:
        hooks.open()
        store.listeners.append(hooks.changed)
        await asyncio.to_thread(store.cancel, job_id)
        while store.folder.has_webhook_mark(job_id):
            await asyncio.sleep(0.01)
        await hooks.close()

    asyncio.run(run())


def test_one_signed_webhook_is_sent_when_a_job_ends(store: JobStore, receiver: Receiver) -> None:
    job = job_with_webhook(store, receiver.url)
    deliver(store, webhooks(store), job.job_id)
    [(headers, body)] = receiver.got
    assert json.loads(body) == {"job_id": job.job_id, "status": "cancelled"}
    assert headers["webhook-id"] == f"{job.job_id}.cancelled"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"a key of the test", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


@pytest.mark.parametrize("secret", ["plain", "whsec_abc", "whsec_nö"])
def test_a_secret_that_is_not_base64_is_used_as_it_is(secret: str) -> None:
    headers = signed_headers(secret, "id", 7.0, b"{}")
    digest = hmac.new(secret.encode(), b"id.7.{}", hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_a_failing_receiver_is_tried_again_with_the_same_id(
    store: JobStore, receiver: Receiver
) -> None:
    receiver.statuses = [500, 503]
    deliver(store, webhooks(store), job_with_webhook(store, receiver.url).job_id)
    assert len(receiver.got) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


@pytest.mark.parametrize(("statuses", "tries"), [([410], 1), ([500] * 9, 3), ([302] * 9, 3)])
def test_deliveries_end(
    store: JobStore, receiver: Receiver, statuses: list[int], tries: int
) -> None:
    receiver.statuses = statuses
    deliver(store, webhooks(store), job_with_webhook(store, receiver.url).job_id)
    assert len(receiver.got) == tries


def test_a_private_receiver_is_not_reached(store: JobStore, receiver: Receiver) -> None:
    job = job_with_webhook(store, receiver.url)
    deliver(store, webhooks(store, allow_private_urls=False), job.job_id)
    assert receiver.got == []


def test_pending_webhooks_are_delivered_after_a_restart(
    store: JobStore, receiver: Receiver
) -> None:
    job = job_with_webhook(store, receiver.url)
    store.cancel(job.job_id)  # no webhook was sent: the server ended here

    async def restart() -> None:
        hooks = webhooks(store)
        hooks.open()
        await hooks.resume()
        while store.folder.has_webhook_mark(job.job_id):
            await asyncio.sleep(0.01)
        await hooks.resume()
        await hooks.close()

    asyncio.run(restart())
    assert len(receiver.got) == 1


def test_marks_of_deleted_jobs_are_removed(store: JobStore, receiver: Receiver) -> None:
    job = job_with_webhook(store, receiver.url)
    store.delete(job.job_id)
    asyncio.run(webhooks(store).resume())
    assert store.folder.webhook_marks() == []


def test_without_a_secret_nothing_is_signed() -> None:
    assert "webhook-signature" not in signed_headers("", "id", 0.0, b"")


def test_killed_in_the_middle_of_a_delivery_the_server_delivers_again(
    tmp_path: Path, receiver: Receiver
) -> None:
    environment = {"PIPELINE": "tests.pipelines:FindsNothing", "ALLOW_PRIVATE_URLS": "1"}
    clip = Path(__file__).parents[2] / "examples" / "dancing_sprout.mp4"
    receiver.hold.clear()
    with process_server(tmp_path, **environment) as server:
        accepted = httpx.post(
            f"{server.url}/jobs",
            files={"file": clip.read_bytes()},
            data={"webhook_url": receiver.url},
            timeout=60,
        )
        assert accepted.status_code == 202, accepted.text
        wait_until(lambda: receiver.got, timeout_s=60)
        server.process.kill()
        server.process.wait()
    receiver.hold.set()
    with process_server(tmp_path, **environment):
        wait_until(lambda: len(receiver.got) >= 2, timeout_s=60)
    assert {headers["webhook-id"] for headers, _ in receiver.got} == {
        f"{accepted.json()['job_id']}.error"
    }
