"""Numbers for Prometheus: counted once each, and no secrets in labels."""

from __future__ import annotations

import httpx

from tests.api.bodies import ended, submit
from tests.api.conftest import Serve
from tests.inline_executors import FindsNoSubject, WaitsForPermission


def numbers(client: httpx.Client) -> dict[str, float]:
    """Each sample by its name and labels, as written."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = [line for line in response.text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_jobs_are_counted_once_by_outcome(serve: Serve) -> None:
    with httpx.Client(base_url=serve().url, timeout=60) as client:
        for mode in ("fast", "fast", "default"):
            job_id = ended(client, submit(client, mode=mode))["job_id"]
        client.delete(f"/jobs/{job_id}")
        found = numbers(client)
    assert found['actionmesh_jobs_total{mode="fast",status="finished"}'] == 2
    assert found['actionmesh_jobs_total{mode="default",status="finished"}'] == 1
    assert found['actionmesh_job_seconds_count{mode="fast"}'] == 2
    assert found['actionmesh_stage_seconds_count{stage="motion"}'] == 3
    assert found["actionmesh_disk_free_bytes"] > 0


def test_failures_and_running_jobs_are_counted(serve: Serve, gate: WaitsForPermission) -> None:
    with httpx.Client(base_url=serve(gate).url, timeout=60) as client:
        ids = [submit(client) for _ in range(3)]
        assert gate.started.wait(60)
        client.post(f"/jobs/{ids[1]}/cancel")
        found = numbers(client)
        assert found['actionmesh_jobs_under_way{status="running"}'] == 1
        assert found['actionmesh_jobs_under_way{status="queued"}'] == 1
        assert found['actionmesh_jobs_total{mode="default",status="cancelled"}'] == 1
        assert not any(job_id in name for job_id in ids for name in found)


def test_two_apps_count_separately(serve: Serve) -> None:
    with httpx.Client(base_url=serve(FindsNoSubject()).url, timeout=60) as client:
        ended(client, submit(client))
        assert numbers(client)['actionmesh_jobs_total{mode="default",status="error"}'] == 1


def test_metrics_need_a_key_if_keys_are_set(serve: Serve) -> None:
    url = serve(api_keys=("key",)).url
    assert httpx.get(f"{url}/metrics", timeout=60).status_code == 401
    assert httpx.get(f"{url}/metrics", headers={"X-API-Key": "key"}, timeout=60).status_code == 200
