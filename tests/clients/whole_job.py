"""A whole job through the package that openapi-python-client made of /openapi.json.

`python whole_job.py URL CLIP`, where `worker_client` can be imported; test_generated_clients.py
runs it. An assertion fails if anything differs from what is expected.
"""

from __future__ import annotations

import hashlib
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

from worker_client import Client
from worker_client.api.jobs import (
    cancel_job,
    create_job,
    delete_job,
    follow_job,
    get_job,
    list_jobs,
    retry_job,
)
from worker_client.api.outputs import get_archive, get_output
from worker_client.api.page import get_client, page
from worker_client.api.status import health, info, metrics, ready
from worker_client.models import (
    Accepted,
    CreateJobFilesBody,
    CreateJobFilesBodyMode,
    Problem,
    RetryJobBody,
)
from worker_client.types import File


def main(url: str, clip: Path) -> None:
    """Send, wait, download, list, retry, cancel, delete; and two errors."""
    client = Client(base_url=url, raise_on_unexpected_status=True, timeout=None)
    job_id = submit(client, clip.read_bytes(), formats="npz")
    job = ended(client, job_id)
    assert job.status.value == "finished", job
    for file in job.files:
        if file.name.endswith(".glb"):
            found = get_output.sync(job_id, file.name, client=client)
            assert hashlib.sha256(found.payload.read()).hexdigest() == file.sha256, file
    sha256s = {file.name: file.sha256 for file in job.files}
    archive = get_archive.sync(job_id, client=client).payload.read()
    assert hashlib.sha256(archive).hexdigest() == sha256s["meshes.zip"]
    assert job_id in [listed.job_id for listed in list_jobs.sync(client=client).jobs]
    assert "event: done" in follow_job.sync(job_id, client=client)

    retried = retry_job.sync(job_id, client=client, body=RetryJobBody(seed=8)).job_id
    assert cancel_job.sync(retried, client=client).job_id == retried
    assert ended(client, retried).status.value == "cancelled"
    for each in (job_id, retried):
        assert delete_job.sync(each, client=client).status == "deleted"
    assert get_job.sync(job_id, client=client).code == "job_not_found"
    wrong = create_job.sync(client=client, body=CreateJobFilesBody(file=File(BytesIO(b"no video"))))
    assert isinstance(wrong, Problem) and wrong.code == "unsupported_media_type"

    assert health.sync(client=client).status.value == "healthy"
    assert ready.sync(client=client).ready is True
    assert info.sync(client=client).limits.min_frames == 16
    assert metrics.sync(client=client).startswith("# HELP")
    assert "<html" in page.sync(client=client)
    assert "import" in get_client.sync(client=client)


def submit(client: Client, clip: bytes, **fields: Any) -> str:
    """The id of a new job."""
    file = File(BytesIO(clip), "clip.mp4", "video/mp4")
    body = CreateJobFilesBody(file=file, mode=CreateJobFilesBodyMode.FAST, seed=7, **fields)
    accepted = create_job.sync(client=client, body=body)
    assert isinstance(accepted, Accepted), accepted
    return str(accepted.job_id)


def ended(client: Client, job_id: str) -> Any:
    """The job once it has ended."""
    while True:
        job = get_job.sync(job_id, client=client, wait=50)
        if job.status.value not in ("queued", "running"):
            return job


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
