"""Log lines: one each, with the job's id, whatever a client has put into them."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable, Iterator

import httpx
import pytest

from job.logs import bound_to_job, configure
from tests.api.bodies import submit
from tests.servers import ProcessServer, free_port
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_json_lines_carry_the_job_and_the_traceback() -> None:
    stream = io.StringIO()
    configure("json", stream)
    with bound_to_job("abc"):
        try:
            raise ValueError("x")
        except ValueError:
            logging.getLogger("foreign").exception("failed\nhere")
    line = json.loads(stream.getvalue())
    assert line["job_id"] == "abc" and line["message"] == "failed\nhere"
    assert "ValueError" in line["traceback"]


def test_a_text_line_stays_one_line() -> None:
    stream = io.StringIO()
    configure("text", stream)
    with bound_to_job("6b2f8c1e-7f1c"):
        logging.getLogger("api").info("name %s", "a\nERROR forged\r")
    text = stream.getvalue()
    assert text.count("\n") == 1 and "[6b2f8c1e]" in text


def test_urls_of_downloads_are_not_logged() -> None:
    stream = io.StringIO()
    configure("text", stream)
    logging.getLogger("httpx").info("GET https://host/clip?token=secret")
    assert stream.getvalue() == ""


def test_no_secret_is_logged(start_server: Callable[..., ProcessServer]) -> None:
    """The server's keys, wrong keys, and the tokens in addresses from clients."""
    signing = "whsec_" + base64.b64encode(b"signing-secret").decode()
    server = start_server(
        API_KEY="open-sesame", WEBHOOK_SECRET=signing, PIPELINE="tests.pipelines:Specks",
        ALLOW_PRIVATE_URLS="1",
    )  # fmt: skip
    unused = f"http://127.0.0.1:{free_port()}"
    key = {"X-API-Key": "open-sesame", "Cookie": "a=cookie-secret"}
    with httpx.Client(base_url=server.url, timeout=60, headers=key) as client:
        first = submit(client, webhook_url=f"{unused}/hook?token=hook-secret")
        assert client.get(f"/jobs/{first}?wait=50").json()["status"] == "finished"
        sent = client.post("/jobs", json={"video_url": f"{unused}/clip.mp4?token=url-secret"})
        second = client.get(f"/jobs/{sent.json()['job_id']}?wait=50").json()
        assert second["error_code"] == "url_fetch_failed"
        wait_until(lambda: "webhook not delivered" in server.log.read_text())
        client.get("/info?key=query-secret", headers={"Authorization": "Bearer guess-secret"})
        client.post("/jobs?key=query-secret", headers={"X-API-Key": "guess-secret"})
        client.post("/jobs", content=b"body-secret", headers={"Content-Type": "x/y"})
    server.process.terminate()
    assert server.process.wait(100) == 0
    text = server.log.read_text()
    assert "stopped" in text and "secret" not in text
    assert "open-sesame" not in text and signing not in text
