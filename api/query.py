"""The route class of the API: refuses query fields that are unknown or given twice, as in a body.

The page, its files and /docs are ordinary routes: there, anything after the `?` is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from api.multipart import MAX_FIELDS
from errors import InvalidParameter, MalformedRequest
from job.options import check_names

_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class CheckedRoute(APIRoute):
    """Knows the query fields from the endpoint's parameters and from `openapi_extra`."""

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        documented = (self.openapi_extra or {}).get("parameters", ())
        self._known = [
            *(field.alias for field in self.dependant.query_params),
            *(field["name"] for field in documented if field["in"] == "query"),
        ]

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises InvalidParameter and MalformedRequest."""
        if scope["query_string"] and scope["method"] in (self.methods or ()):
            _check(scope["query_string"], self._known)
        await super().handle(scope, receive, send)


def _check(query: bytes, known: Iterable[str]) -> None:
    try:
        if _BROKEN_ESCAPE.search(query):
            raise ValueError(query)
        pairs = parse_qsl(
            query.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:  # also UnicodeDecodeError
        raise MalformedRequest("The query of the address cannot be parsed.") from None
    names = [name for name, _ in pairs]
    check_names(names, known, "query field")
    for name in names:
        if names.count(name) > 1:
            raise InvalidParameter(f"`{name}` is given twice in the address.", field=name)
