"""`python -m upstream.weights` in a process of its own, as `make actionmesh` calls it. No tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.upstream.huggingface_server import Hub
from upstream.sources import Source
from upstream.weights import DEFAULT_REVISIONS

ROOT = Path(__file__).resolve().parents[2]

UNPRIVILEGED = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""Before a command: permissions of files are valid for it, also if root starts it."""


def start(
    home: Path, hub: Hub, terminal: int = subprocess.PIPE, **more: str
) -> subprocess.Popen[str]:
    """Begin to download into `home`; `terminal` is the descriptor that it writes to."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home.parent),
        "HF_HOME": str(home),
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }
    return subprocess.Popen(
        [*UNPRIVILEGED, sys.executable, "-m", "upstream.weights"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        text=True,
    )


def succeeds(process: subprocess.Popen[str]) -> str:
    """What it wrote; fails if it fails."""
    _, text = process.communicate(timeout=60)
    assert process.returncode == 0, text
    return text or ""


def fails(process: subprocess.Popen[str]) -> str:
    """The last line that it wrote, which is for the user; fails if it succeeds."""
    _, text = process.communicate(timeout=60)
    assert process.returncode == 1, text
    assert "Traceback" not in text, text
    return str(text).strip().splitlines()[-1]


@contextmanager
def restricted(folder: Path, mode: int = 0) -> Iterator[None]:
    """A folder that UNPRIVILEGED commands cannot look into, or only with `mode`."""
    folder.chmod(mode)
    try:
        yield
    finally:
        folder.chmod(0o700)


def cached(home: Path, source: Source, revision: str = "") -> Path:
    """The folder of a source's files, by default at its default revision."""
    commit = revision or DEFAULT_REVISIONS[source.name]
    return home / "hub" / source.cache_folder / "snapshots" / commit
