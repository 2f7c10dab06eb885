"""/openapi.json, and the page at /docs: the same document as plain HTML, made here.

FastAPI's own page loads its scripts from a CDN; this one works offline, under our strict content
policy, and has an anchor for every error code: the `type` of each problem document links to it.
Both are made once: thousands of requests for them may come at once.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from errors import ERRORS_BY_CODE

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 2.5rem; font-size: 1.1rem; } h2 code { font-size: 1rem; }
pre, code { font-family: ui-monospace, monospace; font-size: .85rem; }
pre { overflow: auto; padding: .75rem; border: 1px solid color-mix(in srgb, currentColor 20%,
  transparent); border-radius: .4rem; max-height: 24rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }
:target { outline: 2px solid Highlight; }
"""

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    made, _ = _document_and_page(request.app, str(request.scope.get("root_path", "")))
    return Response(made, media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    _, page = _document_and_page(request.app, str(request.scope.get("root_path", "")))
    return Response(page, media_type="text/html; charset=utf-8")


@router.get("/docs.css")
async def style() -> Response:
    """A separate file, because the content policy allows no inline style."""
    return Response(STYLE, media_type="text/css; charset=utf-8")


@lru_cache(maxsize=1)
def _document_and_page(app: FastAPI, root: str) -> tuple[bytes, bytes]:
    document = app.openapi()
    if root:
        document = {**document, "servers": [{"url": root}]}
    made = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return made.encode(), "".join(_page(document, root)).encode()


def _page(document: dict[str, Any], root: str) -> Iterator[str]:
    title = html.escape(document["info"]["title"])
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width">'
    yield f'<link rel="stylesheet" href="{root}/docs.css"><body><h1>{title}</h1>'
    yield f"<p>{html.escape(document['info'].get('description', ''))} The same for programs: "
    yield f'<a href="{root}/openapi.json">openapi.json</a>.</p>'
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield from _operation(method.upper(), path, operation)
    yield "<h2>Error codes</h2><table><tr><th>code<th>status<th>what<th>what to do</tr>"
    for code, kind in ERRORS_BY_CODE.items():
        cells = (kind.status, kind.meaning, kind.default_hint)
        yield f'<tr id="{code}"><td><code>{code}</code>'
        yield "".join(f"<td>{html.escape(str(cell))}" for cell in cells)
    yield "</table></body></html>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"<h2><code>{method} {html.escape(path)}</code></h2>"
    yield f"<p><strong>{html.escape(operation.get('summary', ''))}.</strong> "
    yield f"{html.escape(operation.get('description', ''))}</p>"
    for parameter in operation.get("parameters", ()):
        if parameter["in"] != "path":
            yield f"<p><code>{html.escape(parameter['name'])}</code> ({parameter['in']}): "
            yield f"{html.escape(parameter.get('description', ''))}</p>"
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<p>Body: <code>{media_type}</code></p><table>"
        for name, field in content["schema"].get("properties", {}).items():
            yield f"<tr><td><code>{name}</code><td>{html.escape(_field(field))}"
        yield "</table>"
    for status, reply in operation["responses"].items():
        yield f"<p><code>{status}</code> {html.escape(reply['description'])}</p>"
        for example in _examples(reply):
            text = json.dumps(example, indent=1, ensure_ascii=False)
            yield f"<details><summary>example</summary><pre>{html.escape(text)}</pre></details>"


def _field(field: dict[str, Any]) -> str:
    kind = " | ".join(field["enum"]) if "enum" in field else field.get("type", "")
    bounds = [f"{key} {field[key]}" for key in ("minimum", "maximum", "default") if key in field]
    return f"{', '.join([kind, *bounds])}. {field.get('description', '')}"


def _examples(reply: dict[str, Any]) -> Iterator[Any]:
    for content in reply.get("content", {}).values():
        if "example" in content:
            yield content["example"]
        yield from (example["value"] for example in content.get("examples", {}).values())
