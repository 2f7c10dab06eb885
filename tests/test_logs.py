"""Log lines: one each, with the job's id, whatever a client has put into them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from logs import bound_to_job, configure


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
