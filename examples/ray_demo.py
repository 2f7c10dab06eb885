"""`make ray-demo`: four jobs on a Ray cluster of two nodes, one of whose workers is killed mid-job.

Starts the cluster on this machine, `python main.py` with RAY_ADDRESS, sends the example clip four
times, kills the process of a running job, and waits until all four are finished. Server
and cluster are always stopped. Exit code 0 only if every job finished and its files are valid.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from client import Client, ClientError
from examples.demo import ROOT, ServerFailed, running_server, say, terminated
from examples.output_checks import InvalidOutput, check_outputs
from examples.ray_cluster import LocalCluster, local_cluster

CLIP = ROOT / "examples" / "dancing_sprout.mp4"
JOBS = 4
RUNNING_S, FINISHED_S = 120.0, 900.0


def main() -> int:
    """Run the demo; the exit code."""
    signal.signal(signal.SIGTERM, terminated)
    try:
        with tempfile.TemporaryDirectory(prefix="actionmesh_demo_") as folder:
            say("cluster", "starting: a head and two nodes of one CPU each, on this machine")
            with local_cluster(1, 1) as cluster:
                say("", f"RAY_ADDRESS={cluster.address}")
                environment = {"RAY_ADDRESS": cluster.address, "PIPELINE": "silhouette"}
                with running_server(Path(folder), environment) as url:
                    _show(Client(url), cluster, Path(folder))
    except ImportError as exc:
        print(f"{exc.name} is missing: pip install -r requirements/ray.txt", file=sys.stderr)
        return 1
    except (ServerFailed, ClientError, InvalidOutput, OSError) as exc:
        print(f"\nThe demo failed: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; server and cluster are stopped.", file=sys.stderr)
        return 130
    return 0


def _show(client: Client, cluster: LocalCluster, folder: Path) -> None:
    began = time.monotonic()
    jobs = [client.submit(CLIP) for _ in range(JOBS)]
    say("jobs", f"{JOBS} accepted")
    _kill_one(client, cluster, jobs)
    for number, job_id in enumerate(jobs, 1):
        job = client.wait(job_id, timeout=FINISHED_S)
        if job["status"] != "finished":
            raise InvalidOutput(f"job {number} ended as {job['status']}: {job.get('error')}")
        client.save(job_id, folder / job_id)
        files = check_outputs(folder / job_id, job)
        say(f"job {number}", f"finished, attempt {job['attempt']}, {files} valid files")
    say(
        "all",
        f"{JOBS} jobs finished in {time.monotonic() - began:.0f} s, one of them in two attempts",
    )


def _kill_one(client: Client, cluster: LocalCluster, jobs: list[str]) -> None:
    """Kill an actor with SIGKILL as soon as both have a running job."""
    deadline = time.monotonic() + RUNNING_S
    while sum(_is_running(client.status(job_id)) for job_id in jobs) < 2:
        if time.monotonic() > deadline:
            raise InvalidOutput(f"no two jobs were running after {RUNNING_S:.0f} s")
        time.sleep(0.2)
    say("kill", f"process {cluster.kill_an_actor()}, which ran one of two jobs (SIGKILL)")


def _is_running(job: dict[str, Any]) -> bool:
    return job["status"] == "running" and float(job["progress"]["percent"]) > 0


if __name__ == "__main__":
    sys.exit(main())
