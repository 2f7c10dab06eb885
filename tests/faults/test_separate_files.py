"""kill -9 of a server whose files are written by a second child."""

from __future__ import annotations

from pathlib import Path

from tests.executors.blocking_blender import BlockingBlender
from tests.faults.conftest import MakeServer
from tests.faults.inspection import faults, records
from tests.waiting import wait_until


def test_killed_while_files_are_written_the_next_server_needs_no_pipeline_for_them(
    make_server: MakeServer, clip: Path, tmp_path: Path
) -> None:
    blocking_blender = BlockingBlender(tmp_path)
    server = make_server(
        "tests.pipelines:StampsItsBeginning", BLENDER_PATH=blocking_blender.program
    )
    server.program = ("-m", "tests.faults.separate_files_server")
    server.start()
    first, second = server.submit(clip, blender_export="true"), server.submit(clip)

    def began(job_id: str) -> int:
        stamps = tmp_path / f"{job_id}.began"
        return len(stamps.read_text().split()) if stamps.exists() else 0

    wait_until(lambda: blocking_blender.count() and began(second))
    server.kill()
    server.assert_no_orphans()
    blocking_blender.release()
    server.start()
    for job_id in (first, second):
        server.wait_for(job_id)
    jobs = records(server.jobs_dir)
    assert (jobs[first].attempts, jobs[second].attempts) == (2, 2)
    assert began(first) == 1
    server.stop()
    assert faults(server.jobs_dir) == []
    server.assert_no_orphans()
