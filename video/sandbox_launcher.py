"""Puts a program in its cage: sets limits, ties it to its parent's life, then becomes the program.

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

PARENT_GONE = 113
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """`limits` reads like `AS=3221225472,CPU=20`: names of resource.RLIMIT_*, whole numbers."""
    parent, limits, *command = sys.argv[1:]
    _die_with_parent()
    if os.getppid() != int(parent):  # it died before the line above took effect
        sys.exit(PARENT_GONE)
    for limit in limits.split(","):
        name, _, value = limit.partition("=")
        # macOS knows the names but not all of the limits: then the wall clock has to do
        with contextlib.suppress(OSError, ValueError):
            _lower(getattr(resource, f"RLIMIT_{name}"), int(value), grace=name == "CPU")
    # Python ignores these two, and a program would inherit that
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execv(command[0], command)


def _die_with_parent() -> None:
    """Linux only; elsewhere the parent's own `finally` must do."""
    if sys.platform != "linux":
        return
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _lower(which: int, value: int, grace: bool) -> None:
    """Never above what this process was given: raising a hard limit is refused.

    With `grace` the signal that can be told from others (SIGXCPU) comes a second before SIGKILL.
    """
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value + 1 if grace and value != hard else value))


if __name__ == "__main__":
    main()
