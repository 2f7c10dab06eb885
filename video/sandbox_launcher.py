"""Sets limits, priority and the parent-death signal, then becomes the sandboxed program (exec).

Run by path in an isolated interpreter, never imported:
`python -I -S sandbox_launcher.py <parent> <limits> <program> ...`. It exists because `preexec_fn`
is not safe in a process with threads, and because a tool such as ffmpeg must not outlive a parent
that was killed with SIGKILL.
"""

import contextlib
import os
import resource
import signal
import sys

NICENESS = 10
PARENT_GONE = 113
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """`limits` reads like `AS=3221225472,CPU=20`: names of resource.RLIMIT_*, whole numbers."""
    parent, limits, *command = sys.argv[1:]
    # the API has priority: sixteen hostile zips at once kept it from the CPU for 0.8 s
    os.setpriority(os.PRIO_PROCESS, 0, max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))
    _die_with_parent()
    if os.getppid() != int(parent):  # the parent died before the line above took effect
        sys.exit(PARENT_GONE)
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        # macOS has the names but not all of the limits: there only the time limit works
        with contextlib.suppress(OSError, ValueError):
            _lower(getattr(resource, f"RLIMIT_{name}"), int(value), grace=name == "CPU")
    # Python ignores these two signals, and the program would inherit that
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)


def _die_with_parent() -> None:
    """Linux only; elsewhere the parent kills the program in its `finally`."""
    if sys.platform != "linux":
        return
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _lower(which: int, value: int, grace: bool) -> None:
    """Set a limit, never above the hard limit: raising that is refused.

    With `grace` SIGXCPU, which the parent can recognise, comes a second before SIGKILL.
    """
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value + 1 if grace and value != hard else value))


if __name__ == "__main__":
    main()
