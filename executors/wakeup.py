"""A bell that any thread may ring for the one that waits in a select. Knows nothing of children."""

from __future__ import annotations

import contextlib
import os


class Bell:
    """Readable once it was rung, until `silence`; for a selector (`fileno`)."""

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._rung, False)

    def fileno(self) -> int:
        """What to select on."""
        return self._heard

    def ring(self) -> None:
        """From any thread, as often as one likes."""
        with contextlib.suppress(BlockingIOError):  # full: it rings already
            os.write(self._rung, b"!")

    def silence(self) -> None:
        """The waiting thread has heard it."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._heard, 1 << 16)

    def __del__(self) -> None:
        os.close(self._heard)
        os.close(self._rung)
