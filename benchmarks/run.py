"""Runs the benchmarks and keeps their tables in RESULTS.md: `python -m benchmarks.run [load ...]`.

Each part is a program of its own that prints Markdown; its section stands between two comments, and
everything outside of them stays as it is (the GPU's figures come from another machine).
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
PARTS = {
    "silhouette": "The CPU pipeline",
    "subject": "The subject in real clips",
    "long_clips": "Long clips",
    "quality": "Quality, where the truth is known",
    "export": "Files of a job",
    "engines": "Files of a job in other programs",
    "skinning": "Bones that move a mesh",
    "decode": "Reading a clip",
    "page": "The page",
    "load": "The API under load",
    "attacks": "The API under attack",
    "nginx": "Downloads through nginx",
    "local_children": "Several children on one machine",
    "ray_cluster": "Many workers on Ray",
}


def main(names: list[str]) -> int:
    """Run the named parts, or all; 0 if each part succeeded."""
    failed = 0
    for name in names or PARTS:
        began = machine()
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"], stdout=subprocess.PIPE, text=True
        )
        print(done.stdout, flush=True)
        failed += done.returncode != 0
        text = RESULTS.read_text() if RESULTS.exists() else "# Measured figures\n"
        RESULTS.write_text(with_section(text, name, f"{began}\n\n{done.stdout.strip()}"))
    return 1 if failed else 0


def with_section(text: str, name: str, content: str) -> str:
    """`text` with this part's section replaced, or added at the end."""
    begin, end = f"<!-- benchmarks.{name} -->", f"<!-- end of benchmarks.{name} -->"
    section = f"{begin}\n## {PARTS[name]}\n\n{content}\n{end}"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if found.search(text):
        return found.sub(lambda _: section, text, count=1)
    return f"{text.rstrip()}\n\n{section}\n"


def machine() -> str:
    """One line with the machine and the date."""
    cpu = platform.processor() or platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    today, python = time.strftime("%Y-%m-%d"), platform.python_version()
    return (
        f"{today}, Python {python}, {os.cpu_count()} cores of {cpu}, load average before: {load}."
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
