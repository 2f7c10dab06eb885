"""Requests made up from the OpenAPI document, legal ones and others: every answer is documented.

Schemathesis makes them and judges the answers; its pytest plugin is not used (4.32 knows no
pytest 9.2).
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.servers import ThreadServer

schemathesis = pytest.importorskip("schemathesis", reason="pip install -r requirements/dev.txt")

OPERATIONS = 15
"""At least so many must be found in the document."""


def test_every_answer_is_a_documented_one(quick: ThreadServer) -> None:
    schema = schemathesis.openapi.from_url(f"{quick.url}/openapi.json")
    wanted = schemathesis.checks.CHECKS.get_by_names(
        ["not_a_server_error", "status_code_conformance", "content_type_conformance",
         "response_schema_conformance"]
    )  # fmt: skip
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= OPERATIONS
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    asked = {
        operation.label: sum(
            _ask(operation.as_strategy(generation_mode=mode), wanted) for mode in modes
        )
        for operation in operations
    }
    assert all(asked.values()) and sum(asked.values()) > 100, asked


def _ask(cases: Any, wanted: list[Any]) -> int:
    asked = 0

    @settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(checks=wanted, timeout=70)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing is asked for
        ask()
    return asked
