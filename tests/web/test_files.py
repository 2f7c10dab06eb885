"""The files in web/, on disk and as served: short, unchanged if vendored, nothing inline, small."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import httpx
import pytest

from tests.servers import ProcessServer

WEB = Path(__file__).resolve().parents[2] / "web"
OURS = sorted([*WEB.glob("*.js"), *WEB.glob("*.css"), WEB / "index.html"])


def test_vendored_files_have_their_recorded_checksums() -> None:
    record = json.loads((WEB / "vendor" / "VENDORED.json").read_text())
    written = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (WEB / "vendor").iterdir()
        if path.name != "VENDORED.json"
    }
    assert {row["file"]: row["sha256"] for row in record["files"]} == written
    assert record["licence"] == "MIT" and "LICENSE" in written


def test_vendored_modules_import_only_each_other() -> None:
    for path in (WEB / "vendor").glob("*.js"):
        for name in re.findall(r"""(?:^|[;}])\s*(?:import|export)[^;'"]*?from\s*['"]([^'"]+)""",
                               path.read_text(), re.MULTILINE):  # fmt: skip
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"


def test_nothing_is_inline() -> None:
    page = (WEB / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=|javascript:", page)
    for path in WEB.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(",
                             path.read_text()), path.name  # fmt: skip


def test_the_page_names_no_other_host() -> None:
    for path in OURS:
        hosts = set(re.findall(r"https?://([\w.-]+\w)", path.read_text()))
        assert hosts <= {"www.w3.org"}, f"{path.name}: {hosts}"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_files_are_short_and_begin_with_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) <= 300
    if path.suffix != ".html":
        assert lines[0].startswith(("//", "/*"))


def test_the_first_load_is_at_most_60_kb(server: ProcessServer) -> None:
    """Everything that index.html loads, with all static imports; three.js is loaded later."""
    with httpx.Client(base_url=server.url, headers={"Accept-Encoding": "gzip"}) as client:
        linked = re.findall(
            r'(?:href|src)="([\w.]+\.(?:css|js|svg))"', (WEB / "index.html").read_text()
        )
        total, waiting, seen = 0, ["/", *(f"/{name}" for name in linked)], set()
        while waiting:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            with client.stream("GET", path) as reply:
                reply.raise_for_status()
                raw = b"".join(reply.iter_raw())
            total += len(raw)
            if path.endswith(".js"):
                text = (WEB / path[1:]).read_text()
                waiting += [
                    f"/{name}" for name in re.findall(r"^import .*?'\./(.+?)';", text, re.M)
                ]
    assert {"/app.js", "/viewer.js", "/subject.css"} <= seen and "/scene.js" not in seen
    assert total <= 60_000  # the contract allows 900 KB


def test_the_example_is_served(server: ProcessServer) -> None:
    reply = httpx.get(f"{server.url}/example.mp4")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "video/mp4"
    assert reply.content[4:8] == b"ftyp"
