"""A file as a reply: whole, or the one range that was asked for. page.py and outputs.py use it.

starlette's FileResponse does the sending. Three things differ: a Range counts for GET only (RFC
9110, 14.2), an unclear one gets the whole file, and one behind the end gets a problem document.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from api.problems import problem
from errors import RangeNotSatisfiable

# without optional spaces: two that may follow each other take minutes for a header full of spaces
_RANGE = re.compile(r"bytes=(\d{0,999})-(\d{0,999})", re.IGNORECASE | re.ASCII)


class RangeResponse(FileResponse):
    """The caller sets `stat_result`."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(_without_unclear_range(scope), receive, _unless_416(send))
        except RangeNotSatisfiable:
            assert self.stat_result is not None
            size = self.stat_result.st_size
            error = RangeNotSatisfiable(f"The file has {size} bytes.", bytes=size)
            await problem(error, scope, {"Content-Range": f"bytes */{size}"})(scope, receive, send)


def _without_unclear_range(scope: Scope) -> Scope:
    """starlette sends 400, or several parts; we send the whole file for an unclear Range."""
    asked = _RANGE.fullmatch(",".join(Headers(scope=scope).getlist("range")))
    is_clear = asked and (asked[1] or asked[2]) and not (
        asked[2] and int(asked[1] or 0) > int(asked[2])
    )  # fmt: skip
    if is_clear and scope["method"] == "GET":
        return scope
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"range"]}


def _unless_416(send: Send) -> Send:
    """Raises RangeNotSatisfiable in place of starlette's 416, which is plain text."""

    async def checked(message: Message) -> None:
        if message.get("status") == 416:
            raise RangeNotSatisfiable("")
        await send(message)

    return checked
