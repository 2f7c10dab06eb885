"""`make demo`: the example clips through the real server, over HTTP, into demo_output/.

Starts `python main.py` on a free port with a folder of its own, sends each clip with client.py,
saves and checks all files, prints what was made and what to open. Exit code 0 only if all files
exist and are valid. Standard library only; the server is always stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from client import Client, ClientError, Terminal
from examples.output_checks import InvalidOutput, check_outputs

ROOT = Path(__file__).resolve().parent.parent
START_S, STOP_S = 120.0, 15.0
NOT_FOR_THE_DEMO = (
    "ALLOWED_HOSTS", "API_KEY", "CORS_ORIGINS", "GPU_WORKERS", "MAX_UPLOAD_SIZE", "RAY_ADDRESS",
    "REQUIRE_AUTH", "ROOT_PATH",
)  # fmt: skip
"""Settings of this machine's own service that would make the demo's server unreachable."""


class ServerFailed(Exception):
    """The server did not start; the message ends with the last lines of its log."""


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(description="Send the example clips through a real server.")
    parser.add_argument("--out", type=Path, default=ROOT / "demo_output", metavar="DIR")
    parser.add_argument("--mode", help="default, fast or fast_low_ram")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, terminated)
    clips = sorted((ROOT / "examples").glob("*.mp4"))
    try:
        with tempfile.TemporaryDirectory(prefix="actionmesh_demo_") as folder:
            with running_server(Path(folder)) as url:
                for clip in clips:
                    _show(Client(url), clip, given.out / clip.stem, given.mode)
    except (ServerFailed, ClientError, InvalidOutput, OSError) as exc:
        print(f"\nThe demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the server is stopped.", file=sys.stderr)
        return 130
    say("next", "`make serve`, then http://127.0.0.1:8000 in a browser")
    return 0


def terminated(signum: int, _: object) -> NoReturn:
    """Exit by an exception, so that `finally` blocks run."""
    sys.exit(128 + signum)


def _show(client: Client, clip: Path, out: Path, mode: str | None) -> None:
    """Run one clip and print each step."""
    terminal = Terminal(as_json=False)
    say("clip", f"{_shown(clip)}, {_size(clip.stat().st_size)}")
    terminal.job_id = client.submit(clip, mode=mode, on_progress=terminal.progress)
    job = client.wait(terminal.job_id, on_progress=terminal.progress)
    client.save(terminal.job_id, out, on_progress=terminal.progress)
    terminal.clear()
    _print_result(job)
    _print_files(job, out)
    say("checked", f"{check_outputs(out, job)} files: hashes, GLBs, zip, videos; all valid")
    say("open", f"{_shown(out / 'preview.mp4')} (the clip, and the mesh from two sides)")
    say("", f"{_shown(out / 'animated_mesh.glb')}, in Blender or any glTF viewer,")
    say("", "for example https://gltf-viewer.donmccurdy.com")


def _print_result(job: dict[str, Any]) -> None:
    mesh, timings = job["mesh"], dict(job["timings"])
    total_s = timings.pop("total")
    size = f"{mesh['vertices']:,} vertices and {mesh['faces']:,} faces"
    say("made", f"{mesh['timesteps']} meshes of {size} at {mesh['fps']:g} fps in {total_s:.1f} s")
    stages = [f"{stage} {seconds:.1f}" for stage, seconds in timings.items() if seconds >= 0.05]
    say("", "seconds: " + ", ".join(stages))
    for warning in job.get("warnings", []):
        say("warning", str(warning["message"]))


def _print_files(job: dict[str, Any], out: Path) -> None:
    say("saved", f"{_shown(out)}{os.sep}")
    sizes = {str(file["name"]): int(file["bytes"]) for file in job["files"]}
    frames = sorted(name for name in sizes if name.startswith("mesh_"))
    together = sum(sizes.pop(name) for name in frames)
    say("", f"  {frames[0]} .. {frames[-1][5:8]:<3}  {_size(together):>8}")
    for name, size in sizes.items():
        say("", f"  {name:<19}  {_size(size):>8}")


def say(label: str, text: str) -> None:
    """One line under a label."""
    print(f"{label:<8}  {text}", flush=True)


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


# --- the server


@contextmanager
def running_server(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[str]:
    """`python main.py` in a process group of its own; its address. Raises ServerFailed.

    `settings` are environment variables over those of this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    environment = {k: v for k, v in os.environ.items() if k not in NOT_FOR_THE_DEMO}
    environment |= {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "JOBS_DIR": str(folder / "jobs"),
        "MIN_FREE_GB": "0",
        **(settings or {}),
    }
    with open(log, "wb") as output:
        server = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py")],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        began = time.monotonic()
        _wait_until_ready(url, server, log)
        pipeline = Client(url).info()["pipeline"]
        why = f"pipeline {pipeline['name']}: {pipeline['reason']}"
        say("server", f"{url}, ready in {time.monotonic() - began:.1f} s ({why})")
        yield url
    finally:
        _stop(server)


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for GET /ready. Loading weights may take as long as it makes progress."""
    deadline, last = time.monotonic() + START_S, b""
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5):
                return
        except urllib.error.HTTPError as exc:
            with exc:
                body = exc.read()
            if body != last:
                last, deadline = body, time.monotonic() + START_S
                say("server", f"not ready yet: {json.loads(body).get('reason')}")
        except OSError:
            pass
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
    ended = server.poll()
    what = f"ended with code {ended}" if ended is not None else "did not become ready"
    raise ServerFailed(f"the server {what}. The end of its log:\n{tail}")


def _stop(server: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL after 15 seconds."""
    server.terminate()
    try:
        server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
