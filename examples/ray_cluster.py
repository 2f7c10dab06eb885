"""Starts a Ray cluster of several nodes on this machine, for the demo and the tests.

Each node is a raylet with a given number of CPUs, whatever the machine has. All files are in a
temporary folder, so that other clusters of this machine are not affected.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STORE_BYTES = 200_000_000


class LocalCluster:
    """The running cluster: add nodes, kill nodes, list actors."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        """For RAY_ADDRESS."""
        return str(self._cluster.address)

    def add_node(self, cpus: int) -> None:
        """Start one more raylet; returns once the cluster lists it, and no dead one."""
        self.nodes.append(
            self._cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, num_gpus=0)
        )
        self._cluster.wait_for_nodes()

    def kill_node_of(self, pid: int) -> None:
        """Kill the node that runs this process, as if its machine lost power."""
        raylet = _parent(pid)
        node = next(node for node in self.nodes if raylet in _raylets(node))
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def actor_pids(self) -> list[int]:
        """The processes of our actors, busy or not."""
        raylets = {pid for node in self.nodes for pid in _raylets(node)}
        return [pid for pid in _named("ray::RayActor") if _parent(pid) in raylets]

    def kill_an_actor(self) -> int:
        """Kill one actor with SIGKILL; its pid."""
        pid = min(self.actor_pids())
        os.kill(pid, signal.SIGKILL)
        return pid


@contextmanager
def local_cluster(*cpus: int) -> Iterator[LocalCluster]:
    """A head without CPUs, and a node for each number."""
    # short: a socket's path may have 107 characters, and Ray adds some 80
    with tempfile.TemporaryDirectory(prefix="ray_", dir="/tmp") as folder:
        before = {name: os.environ.get(name) for name in ("RAY_TMPDIR", "RAY_USAGE_STATS_ENABLED")}
        os.environ |= {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0"}
        Path(folder, "ray").mkdir()
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE_BYTES}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            made = LocalCluster(cluster)
            for count in cpus:
                made.add_node(count)
            yield made
        finally:
            cluster.shutdown()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _raylets(node: Any) -> list[int]:
    return [info.process.pid for info in node.all_processes.get("raylet", [])]


def _named(start: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "cmdline").read_bytes().startswith(start.encode()):
                    found.append(int(folder.name))
            except OSError:
                pass  # it has just ended
    return found


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
