"""A pipe that wakes a thread which waits in `select`. Any thread may write to it."""

from __future__ import annotations

import contextlib
import os


class WakeupPipe:
    """Readable from `notify` until `clear`; for a selector (`fileno`)."""

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def fileno(self) -> int:
        return self._read_end

    def notify(self) -> None:
        """From any thread, any number of times."""
        with contextlib.suppress(BlockingIOError):  # full, so it is already readable
            os.write(self._write_end, b"!")

    def clear(self) -> None:
        """From the waiting thread, after `select` returned."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 1 << 16)

    def __del__(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)
