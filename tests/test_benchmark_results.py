"""RESULTS.md keeps what other machines measured when one part of it is written anew."""

from __future__ import annotations

import random

from benchmarks.fuzz import mutated
from benchmarks.run import machine, with_section


def test_a_section_is_replaced_in_its_place_and_the_rest_stays() -> None:
    first = with_section("# Figures\n\n## GPU\n\nby hand \\1\n", "load", "| old \\g<0> |")
    text = with_section(with_section(first, "export", "| files |"), "load", "| new \\1 |")
    assert "old" not in text and text.count("## What the API bears") == 1
    assert text.index("by hand \\1") < text.index("| new \\1 |") < text.index("| files |")
    assert with_section(text, "load", "| new \\1 |") == text


def test_the_machine_is_named_in_one_line() -> None:
    assert "cores of" in machine() and "\n" not in machine()


def test_the_fuzzer_repeats_itself_for_a_seed_and_never_stumbles() -> None:
    files = [b"\0\0\0\x10ftypisom" * 9, b"x"]
    runs = [[mutated(random.Random(seed), files) for seed in range(500)] for _ in range(2)]
    assert runs[0] == runs[1] and len(set(runs[0])) > 50
