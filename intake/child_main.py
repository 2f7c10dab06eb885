"""Reads one file from a stranger and answers with one line of JSON: the facts, or the refusal.

Started by path by intake/child.py, in the sandbox; never imported by the server. The question is
the only argument; text of libraries and of ffmpeg goes to stderr, for the server's log. It reads
with the functions that the job's process uses later, so that the two cannot disagree.

in:   {"read": "clip", "path", "container", "frames": FrameRequest}
      {"read": "mesh", "path"}
      and with both "packages", where packages are imported from
out:  {"found": {...}}   {"refused": ServiceError.to_dict()}
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parent.parent)
MEMORY_BYTES = {"clip": 512 << 20, "mesh": 2 << 30}
"""Address space; the sandbox's own limit, which is higher, is left to ffmpeg."""


def main() -> None:
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM):  # the server decides when this ends
        signal.signal(asked_to_stop, signal.SIG_IGN)
    question = json.loads(sys.argv[1])
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with contextlib.suppress(OSError, ValueError):  # macOS has none; the sandbox's may be lower
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES[question["read"]], most))
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    sys.path[:0] = [ROOT, *question["packages"]]
    from errors import ServiceError
    from intake.child import OUT_OF_MEMORY

    try:
        answer = {"found": READERS[question["read"]](question)}
    except ServiceError as refusal:
        answer = {"refused": refusal.to_dict()}
    except MemoryError:
        os._exit(OUT_OF_MEMORY)  # threads that still hold memory are not waited for
    sys.stdout.write(json.dumps(answer) + "\n")


def _read_clip(question: dict[str, Any]) -> dict[str, Any]:
    from video.probe import probe
    from video.sampling import FrameRequest

    request = FrameRequest(**question["frames"])
    found = probe(Path(question["path"]), question["container"], request)
    return {
        "width": found.source.width,
        "height": found.source.height,
        "source_fps": found.source.fps,
        "source_frames": found.source.frames,
        "used_frames": len(found.source.used),
        "fps": found.fps,
    }


def _read_mesh(question: dict[str, Any]) -> dict[str, Any]:
    from intake.glb_document import refused
    from intake.glb_reader import read_glb

    upload = read_glb(Path(question["path"]))
    if upload.texture is not None:
        import cv2

        from meshes.texture import decode_texture

        try:
            decode_texture(upload.texture, largest_px=1)  # can it be? the pixels are not needed
        except (ValueError, cv2.error):
            raise refused("has a texture that cannot be decoded") from None
    return {"vertices": len(upload.vertices)}


READERS = {"clip": _read_clip, "mesh": _read_mesh}

if __name__ == "__main__":
    main()
