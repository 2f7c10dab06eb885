"""Measures ActionMesh on this GPU: `python -m benchmarks.actionmesh_gpu [--budget 560] [--small]`.

One run of at most `--budget` seconds prints Markdown for RESULTS.md: what the card can do, the
surface extraction, the worker over HTTP, each mode stock and with our speed-ups, each speed-up, and
which limits are met. What does not fit in the time is skipped, with a row that says so: on an H100
the speed-ups need a run of their own (`--parts speedups`; `--home` keeps the weights). Models are
of full size with random weights, RMBG aside, which is tiny: nothing is downloaded, times and memory
are real, meshes are not.

Needs a CUDA GPU of 40 GB, 32 GB of memory, 20 GB of disk, the packages of requirements.txt and
requirements/actionmesh.txt (diso aside), and upstream's pinned code in actionmesh_repo/:
`actionmesh/` and `third_party/TripoSG/triposg/`. No network. With `--small` everything runs on a
CPU with tiny models, in about two minutes, to test this program.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.actionmesh_gpu import card, limits, modes, speedups, surface, worker
from benchmarks.actionmesh_gpu.gpu import free
from benchmarks.actionmesh_gpu.part import Part
from benchmarks.actionmesh_gpu.random_models import FULL, SMALL, Size, environment, write_weights
from executors.child_process import child_environment
from pipeline import CHECKOUT
from upstream.checkout import open_checkout

log = logging.getLogger(__name__)

PARTS: dict[str, tuple[Callable[[Part], None], float]] = {
    "card": (card.measure, 40.0),
    "surface": (surface.measure, 30.0),
    "worker": (worker.measure, 330.0),
    "modes": (modes.measure, math.inf),
    "speedups": (speedups.measure, math.inf),
}
"""Each part, and the most seconds that it may take of a GPU's."""


class OutOfTime(BaseException):
    """The budget is used up. No Exception: nothing but `main` may catch it."""


def main() -> int:
    """Run the parts; 0 if none of them failed. Limits that are missed are no failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", type=float, default=560.0, metavar="SECONDS")
    parser.add_argument("--small", action="store_true", help="tiny models on the CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--home", type=Path, help="keeps the random weights for another run")
    wanted = parser.parse_args()
    os.environ.update(child_environment(os.environ))  # before torch reads how to allocate memory
    import torch

    size = SMALL if wanted.small else FULL
    if size.on_gpu and not torch.cuda.is_available():
        parser.exit(1, "no CUDA GPU is here; --small tries the program itself on the CPU\n")
    if not size.on_gpu:
        torch.set_num_threads(1)  # more take longer over tiny tensors
    logging.basicConfig(stream=sys.stderr)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="actionmesh-") as folder:
        home = (wanted.home or Path(folder)).absolute()
        whole = Part(size, home, time.monotonic() + wanted.budget, figures)
        os.environ.update(environment(home))  # before huggingface_hub is imported
        _print_machine(size)
        failed = _measure(whole, wanted.parts)
        whole.begin("Limits", "what", "measured", "limit", "result")
        for row in limits.rows(figures, judged=size.on_gpu):
            whole.row(*row)
    return failed


def _measure(whole: Part, names: Sequence[str]) -> int:
    """Run these parts until the time of the whole is over; the number that failed."""
    failed = 0
    signal.signal(signal.SIGALRM, _out_of_time)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(0.1, whole.left_s))
        _prepare(whole)
        for name in names:
            part, (measure, most_s) = whole, PARTS[name]
            if whole.size.on_gpu:
                part = replace(whole, ends_at=min(whole.ends_at, time.monotonic() + most_s))
            free(whole.size.device)  # of the part before
            try:
                measure(part)
            except Exception as exc:
                failed += 1
                log.exception("part %s failed", name)
                part.row("failed", type(exc).__name__)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except OutOfTime:
        print("\nThe time is over: the rest was not measured.", flush=True)
    return failed


def _print_machine(size: Size) -> None:
    import torch
    import transformers

    name = "tiny models on a CPU: these times mean nothing"
    if size.on_gpu:
        name = torch.cuda.get_device_name()
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    today, python = time.strftime("%Y-%m-%d"), sys.version.split()[0]
    print(f"{today}, {name}, {versions}, Python {python}, random weights", flush=True)


def _prepare(whole: Part) -> None:
    """Make the checkout importable and write the weights, unless they are there already."""
    open_checkout(CHECKOUT)
    if (whole.home / "hub").exists():
        return
    began = time.monotonic()
    write_weights(whole.home, whole.size)
    written = sum(path.stat().st_size for path in whole.home.rglob("*") if path.is_file())
    taken_s = time.monotonic() - began
    print(f"\n{written / 1e9:.1f} GB of weights were written in {taken_s:.0f} s.", flush=True)


def _out_of_time(*_: object) -> None:
    raise OutOfTime


if __name__ == "__main__":
    raise SystemExit(main())
