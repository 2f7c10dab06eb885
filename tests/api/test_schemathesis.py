"""Requests made up from the OpenAPI document, legal ones and others: every answer is documented.

Schemathesis makes them and judges the answers, one by one and in sequences that follow the links
of the document; its pytest plugin is not used (4.32 knows no pytest 9.2).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from tests.api.bodies import ended, frames_zip
from tests.api.conftest import Serve
from tests.servers import ThreadServer

schemathesis = pytest.importorskip("schemathesis", reason="pip install -r requirements/dev.txt")

OPERATIONS = 15
"""At least so many must be found in the document."""
DETERMINISTIC = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def checks(schema: Any, operation: str) -> list[Any]:
    """All that there are, for this operation of the loaded document."""
    assert schema is not None  # loading a document registers its kind's checks
    found = schemathesis.checks.CHECKS
    names = found.get_all_names()
    assert len(names) > 10, names
    if operation in ("POST /jobs", "POST /jobs/{job_id}/retry"):
        # no schema says that a file is a readable video, or that it is longer than `start`
        names.remove("positive_data_acceptance")
    if operation.endswith("/events"):
        # it compares each event with the schema, which is that of the whole text
        names.remove("response_schema_conformance")
    return list(found.get_by_names(names))


def test_every_answer_is_a_documented_one(quick: ThreadServer) -> None:
    schema = schemathesis.openapi.from_url(f"{quick.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) >= OPERATIONS
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    asked = {
        operation.label: sum(
            _ask(operation.as_strategy(generation_mode=mode), checks(schema, operation.label))
            for mode in modes
        )
        for operation in operations
    }
    assert all(asked.values()) and sum(asked.values()) > 100, asked


def _ask(cases: Any, wanted: list[Any]) -> int:
    asked = 0

    @settings(DETERMINISTIC, max_examples=12)
    @given(cases)
    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        case.call_and_validate(checks=wanted, timeout=70)

    with contextlib.suppress(Unsatisfiable):  # nothing can be wrong where nothing is asked for
        ask()
    return asked


def test_sequences_along_the_links_get_documented_answers(serve: Serve) -> None:
    server = serve(allow_video_url=False)  # no look-ups of made-up names
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    seen: Counter[tuple[str, int]] = Counter()
    with httpx.Client(base_url=server.url, timeout=60) as client:

        class Workflow(schema.as_state_machine()):  # type: ignore[misc]
            """Uploads are real videos, and each job has ended before the next request: equal
            sequences must get equal answers.
            """

            def setup(self) -> None:
                """Without the jobs of the sequence before."""
                for job in client.get("/jobs", params={"limit": 100}).json()["jobs"]:
                    client.delete(f"/jobs/{job['job_id']}")

            def before_call(self, case: Any) -> None:
                """Replace the made-up body."""
                if case.media_type == "multipart/form-data":
                    case.body = {"file": frames_zip()}
                    case.meta.generation.mode = schemathesis.GenerationMode.POSITIVE

            def validate_response(self, response: Any, case: Any, **options: Any) -> None:
                """With the checks of its operation, and what was recorded of the sequence."""
                operation, status = case.operation.label, response.status_code
                seen[operation, status] += 1
                if status == 202 and "job_id" in response.json():
                    ended(client, response.json()["job_id"])
                wanted = checks(schema, operation)
                case.validate_response(
                    response, wanted, transport_kwargs=options, recorder=self.recorder
                )

        Workflow.run(settings=settings(DETERMINISTIC, max_examples=30, stateful_step_count=8))
    reached = {operation for operation, status in seen if status in (200, 202)}
    assert reached >= {"POST /jobs", "GET /jobs/{job_id}", "POST /jobs/{job_id}/retry"}, seen
