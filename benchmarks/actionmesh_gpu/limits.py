"""What a GPU of the H100 class must reach, and the table that compares.

The parts fill `figures`, __main__.py prints the table at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

LIMITS: Mapping[str, tuple[str, float]] = {
    "default_s": ("default, 16 frames, seconds", 45.0),
    "default_of_stock": ("default, share of stock's time", 0.62),
    "fast_s": ("fast, 16 frames, seconds", 24.0),
    "fast_of_stock": ("fast, share of stock's time", 0.6),
    "default_gb": ("default, peak of GPU memory, GB", 16.0),
    "fast_low_ram_gb": ("fast_low_ram on a card of 12 GB, peak of GPU memory, GB", 10.0),
    "gpu_idle_s": ("GPU idle between two queued jobs, seconds", 0.5),
}


def rows(figures: Mapping[str, float], judged: bool) -> Iterator[tuple[str, str, str, str]]:
    """What, measured, limit, result; `judged` is false where the times mean nothing."""
    for name, (what, limit) in LIMITS.items():
        found = figures.get(name)
        result = (
            "not judged"
            if not judged
            else "pass"
            if found is not None and found <= limit
            else "MISS"
        )
        if found is None:
            yield what, "not measured", f"{limit:g}", "not measured"
        else:
            yield what, f"{found:.2f}", f"{limit:g}", result
