"""Log lines, each with the id of its job: text on a terminal, JSON elsewhere.

The id comes from a context variable that is set by the thread or task that works on the job. The
filter is on the handler, so that lines of other libraries have the id too.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TextIO

_job_id: ContextVar[str] = ContextVar("job_id", default="")


@contextmanager
def bound_to_job(job_id: str) -> Iterator[None]:
    """Every line logged inside has this job's id. Threads do not inherit it: bind it in each."""
    token = _job_id.set(job_id)
    try:
        yield
    finally:
        _job_id.reset(token)


def configure(log_format: str = "auto", stream: TextIO | None = None) -> None:
    """One handler on the root logger. `auto` is text on a terminal, JSON otherwise."""
    stream = stream or sys.stderr
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.addFilter(_add_job_id)
    handler.setFormatter(_JsonLines() if as_json else _TextLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # httpx logs whole URLs at INFO, and a video_url may carry a token in its query
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # python-multipart logs every malformed byte; our reply reports it once
    logging.getLogger("python_multipart").setLevel(logging.ERROR)


def _add_job_id(record: logging.LogRecord) -> bool:
    record.job_id = _job_id.get()
    return True


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if job_id := getattr(record, "job_id", ""):
            line["job_id"] = job_id
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).strftime("%H:%M:%S")
        job_id = getattr(record, "job_id", "")
        where = f" [{job_id[:8]}]" if job_id else ""
        text = f"{time} {record.levelname:<7} {record.name}{where}: {record.getMessage()}"
        # logged text may come from a client; a line must stay one line
        text = text.replace("\r", "\\r").replace("\n", "\\n")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
