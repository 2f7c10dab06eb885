"""A pipe that any thread may write to, to wake the one that waits in a select."""

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
        """What to select on."""
        return self._read_end

    def notify(self) -> None:
        """From any thread, any number of times."""
        with contextlib.suppress(BlockingIOError):  # full: it is readable already
            os.write(self._write_end, b"!")

    def clear(self) -> None:
        """From the waiting thread, once it is awake."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, 1 << 16)

    def __del__(self) -> None:
        os.close(self._read_end)
        os.close(self._write_end)
