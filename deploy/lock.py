"""Writes requirements/cpu.lock and requirements/gpu.lock again: `make lock`. Needs the network.

The containers install only from these files: every package at one version, every file checked by
its hash. uv resolves them for the image's Python and platform, in a temporary environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = "uv==0.13.9"
PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_28"
LOCKS = {
    "requirements/cpu.lock": ("requirements.txt",),
    "requirements/gpu.lock": ("requirements.txt", "requirements/actionmesh.txt"),
}
HEAD = """\
# What the {image} image installs, with the hash of every file. From {inputs}
# for Python {python} on Linux x86_64, by `make lock`; other machines take those files themselves.
"""


def main() -> int:
    """Write both files; stop at the first that cannot be resolved."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        subprocess.run([f"{folder}/bin/pip", "install", "-q", UV], check=True)
        for name, inputs in LOCKS.items():
            resolved = subprocess.run(
                [f"{folder}/bin/uv", "pip", "compile", "-q", "--generate-hashes", "--no-header",
                 "--no-annotate", "--no-emit-index-url", "--python-version", PYTHON,
                 "--python-platform", PLATFORM, *inputs],
                cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
            ).stdout  # fmt: skip
            image = "GPU" if "gpu" in name else "CPU"
            head = HEAD.format(image=image, inputs=" and ".join(inputs), python=PYTHON)
            (ROOT / name).write_text(head + resolved)
    return 0


if __name__ == "__main__":
    sys.exit(main())
