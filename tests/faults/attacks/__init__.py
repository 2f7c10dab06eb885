"""Attacks on a real server without a key, and what each does to it.

http_attacks.py, connection_attacks.py and file_attacks.py have one function per attack; measure.py
runs one and looks at the server's memory, answers, files and processes.
tests/faults/test_attacks.py runs the short ones, benchmarks/attacks.py all.
"""

from __future__ import annotations

from tests.faults.attacks import connection_attacks, file_attacks, http_attacks
from tests.faults.attacks.attack import Attack

ATTACKS = {
    name: found
    for part in (http_attacks, connection_attacks, file_attacks)
    for name, found in vars(part).items()
    if isinstance(found, Attack)
}
"""By the names of their functions."""
