"""video_url with a real host: the state during the download, and how it may end."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from tests.api.bodies import ended, frames_zip
from tests.api.conftest import Serve
from tests.servers import ThreadServer


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that disconnects, as after a cancel."""


class Host:
    """Sends `content` once it is allowed to."""

    def __init__(self) -> None:
        self.content = frames_zip()
        self.asked, self.may_answer = threading.Event(), threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.set()
                host.may_answer.wait(60)
                self.send_response(200)
                self.send_header("content-length", str(len(host.content)))
                self.end_headers()
                self.wfile.write(host.content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/walk.zip"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def host() -> Iterator[Host]:
    running = Host()
    yield running
    running.close()


@pytest.fixture
def server(serve: Serve) -> ThreadServer:
    return serve(allow_private_urls=True, max_upload_size=100_000)


@pytest.fixture
def client(server: ThreadServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as talking:
        yield talking


def submitted(client: httpx.Client, host: Host) -> str:
    response = client.post("/jobs", json={"video_url": host.url})
    assert response.status_code == 202, response.text
    return str(response.json()["job_id"])


def test_a_video_is_fetched_and_its_job_finished(client: httpx.Client, host: Host) -> None:
    job_id = submitted(client, host)
    assert host.asked.wait(60)
    waiting = client.get(f"/jobs/{job_id}").json()
    assert waiting["status"] == "queued" and waiting["progress"]["stage"] == "fetching"
    host.may_answer.set()
    body = ended(client, job_id)
    assert body["status"] == "finished" and body["input"]["filename"] == "walk.zip"


@pytest.mark.parametrize(
    ("content", "code"), [(b"a page", "video_unreadable"), (b"PK" * 99_999, "url_fetch_failed")]
)
def test_a_download_that_is_not_a_video_fails_with_a_job_error(
    client: httpx.Client, host: Host, content: bytes, code: str
) -> None:
    host.content = content
    host.may_answer.set()
    body = ended(client, submitted(client, host))
    assert (body["status"], body["error_code"]) == ("error", code)


def test_a_cancel_ends_the_download(client: httpx.Client, host: Host) -> None:
    job_id = submitted(client, host)
    assert host.asked.wait(60)
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 200
    host.may_answer.set()
    assert ended(client, job_id)["status"] == "cancelled"


def test_a_download_continues_if_its_cancel_cannot_be_written(
    server: ThreadServer, client: httpx.Client, host: Host
) -> None:
    job_id = submitted(client, host)
    assert host.asked.wait(60)
    record = server.state.store.folder.record_path(job_id)
    aside = record.with_name("aside")
    os.rename(record, aside)
    record.mkdir()  # nothing can be put in its place
    assert client.post(f"/jobs/{job_id}/cancel").status_code == 500
    record.rmdir()
    os.rename(aside, record)
    host.may_answer.set()
    assert ended(client, job_id)["status"] == "finished"


def test_a_download_whose_folder_vanishes_is_repeated_when_it_is_back(
    server: ThreadServer, client: httpx.Client, host: Host
) -> None:
    """JOBS_DIR, not the address, is at fault: the job does not fail."""
    job_id = submitted(client, host)
    assert host.asked.wait(60)
    aside = server.jobs_dir.with_name("aside")
    server.jobs_dir.rename(aside)
    host.asked.clear()
    host.may_answer.set()
    assert host.asked.wait(60)  # it is tried again
    body = client.get(f"/jobs/{job_id}").json()
    assert (body["status"], body["input"]["bytes"]) == ("queued", None)
    aside.rename(server.jobs_dir)
    assert ended(client, job_id)["status"] == "finished"
    assert server.reserved_places() == 0
