"""/openapi.json: it has every route and no other, and every example is valid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from api import docs_page, events, jobs, outputs, page, schemas, status, submissions
from api.examples import JOB_EXAMPLES
from api.submissions import UPLOAD_NAMES
from errors import ERRORS_BY_CODE
from main import create_app
from settings import Settings

ROUTERS = (
    status.router,
    submissions.router,
    jobs.router,
    events.router,
    outputs.router,
    page.page_router({}),
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    app = create_app(Settings(pipeline="silhouette"))
    return app.openapi()


def replies(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where, which status, and what the reply is."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for code, reply in operation["responses"].items():
                yield f"{method} {path}", code, reply


def test_it_has_every_route_and_no_other(document: dict[str, Any]) -> None:
    routes = {
        (route.path, method.lower())
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods or ()
    }
    named = {(path, method) for path, found in document["paths"].items() for method in found}
    assert named == routes
    assert not any(route.include_in_schema for route in docs_page.router.routes)  # type: ignore[attr-defined]


def test_every_route_is_explained(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"] and operation["description"], path


def test_every_error_is_a_problem_with_a_valid_example(document: dict[str, Any]) -> None:
    seen = set()
    for where, code, reply in replies(document):
        content = reply.get("content", {})
        if "application/problem+json" not in content:
            continue
        for name, example in content["application/problem+json"]["examples"].items():
            body = schemas.Problem.model_validate(example["value"], strict=True)
            assert (body.code, str(body.status)) == (name, code), where
            assert ERRORS_BY_CODE[name].status == body.status
            seen.add(name)
    only_in_jobs = {
        "no_subject_found", "url_fetch_failed", "worker_crashed", "input_crashes_pipeline",
        "timed_out", "gpu_out_of_memory", "gpu_error", "disk_full", "weights_unavailable",
    }  # fmt: skip
    of_no_route = {"not_found", "method_not_allowed", "head_too_large"}
    assert seen | only_in_jobs | of_no_route == set(ERRORS_BY_CODE)


def test_no_reply_is_the_frameworks_default(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for where, code, reply in replies(document):
        if int(code) >= 400 and not where.startswith(("get /health", "get /ready")):
            assert list(reply["content"]) == ["application/problem+json"], (where, code)


def test_examples_of_good_replies_fit_their_models(document: dict[str, Any]) -> None:
    for where, code, reply in replies(document):
        content = reply.get("content", {}).get("application/json", {})
        reference = content.get("schema", {}).get("$ref", "")
        examples = [content["example"]] if "example" in content else []
        examples += [example["value"] for example in content.get("examples", {}).values()]
        for example in examples:
            model = getattr(schemas, reference.rpartition("/")[2])
            model.model_validate(example, strict=True)
            assert set(example) <= set(model.model_fields), (where, code)


def test_references_can_be_resolved(document: dict[str, Any]) -> None:
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    for reference in references(document):
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


def test_both_request_bodies_are_described(document: dict[str, Any]) -> None:
    content = document["paths"]["/jobs"]["post"]["requestBody"]["content"]
    assert set(content["multipart/form-data"]["schema"]["properties"]) == set(UPLOAD_NAMES)
    assert set(content["application/json"]["schema"]["properties"]) == set(UPLOAD_NAMES) - {
        "file",
        "mesh",
    }


def test_a_new_job_is_linked_to_the_operations_on_it(document: dict[str, Any]) -> None:
    names = [
        operation["operationId"]
        for operations in document["paths"].values()
        for operation in operations.values()
    ]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
    for path in ("/jobs", "/jobs/{job_id}/retry"):
        links = document["paths"][path]["post"]["responses"]["202"]["links"]
        assert {link["operationId"] for link in links.values()} < set(names)


def test_job_examples_cover_every_key() -> None:
    shown = {key for example in JOB_EXAMPLES.values() for key in example}
    assert shown >= set(schemas.JobBody.model_fields) - {"retry_of", "cancel_requested", "source"}


def test_it_is_served(client: httpx.Client, document: dict[str, Any]) -> None:
    served = client.get("/openapi.json").json()
    assert served["openapi"].startswith("3.1") and served["paths"] == document["paths"]
