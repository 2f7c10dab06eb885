"""The connection to a Ray cluster: connect, make actors, call and kill them, disconnect.

Knows nothing of tasks: executors/ray.py does. Ray itself is imported on the first `connect`.
"""

from __future__ import annotations

import logging
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from executors.base import ExecutorOptions, ProcessLost
from executors.ray_actor import RayActor

log = logging.getLogger(__name__)

CONNECT_S = 5.0

_ROOT = str(Path(__file__).resolve().parent.parent)


class RayConnection:
    """Safe to use from any thread: one lock, so that no call is made after Ray was shut down.

    Actors need one GPU each, or one CPU each for a pipeline that needs no GPU.
    """

    def __init__(self, address: str, options: ExecutorOptions) -> None:
        self._address, self._options = address, options
        self._resource = "GPU" if options.child.pipeline == "actionmesh" else "CPU"
        self._lock = threading.RLock()
        self._ray: Any = None  # the module, while connected
        self._closed = False

    def connect(self) -> bool:
        """One try. True once the cluster is connected and has a resource for an actor."""
        host, _, port = self._address.rpartition("://")[2].rpartition(":")
        try:  # `ray.init` may hang for minutes if nothing listens at the address
            socket.create_connection((host, int(port)), CONNECT_S).close()
        except (OSError, ValueError) as exc:
            log.error("nothing answers at RAY_ADDRESS %s: %s", self._address, exc)
            return False
        return self._join()

    def make_actors(self, limit: int) -> list[Any]:
        """Ray's handles of new actors, one per resource, at most `limit` (0: no limit).

        Never more than there are resources: the others would wait forever. Raises ProcessLost
        after `close`.
        """
        with self._lock:
            is_gpu = self._resource == "GPU"
            kind = self._connected().remote(
                num_gpus=1 if is_gpu else 0,
                num_cpus=0 if is_gpu else 1,
                max_restarts=-1,
                max_task_retries=0,  # the server counts attempts; Ray must not
                concurrency_groups={"control": 2},
            )(RayActor)
            available = self._available()
            count = min(limit, available) if limit else available
            log.info("Ray at %s: %d actors, one per %s", self._address, count, self._resource)
            return [kind.remote(self._options) for _ in range(count)]

    def call(self, actor: Any, method: str, *arguments: Any) -> Future[Any]:
        """Call the actor without waiting. Raises ProcessLost without a connection."""
        with self._lock:
            self._connected()
            remote = getattr(actor, method)
            if method != "run":  # answered while a task runs
                remote = remote.options(concurrency_group="control")
            try:
                future: Future[Any] = remote.remote(*arguments).future()
            except ConnectionError as exc:
                raise ProcessLost("the connection to Ray is lost") from exc
            return future

    def kill(self, actor: Any) -> None:
        """The only way to stop an actor that does not respond; Ray starts it again."""
        with self._lock:
            if self._ray:
                self._ray.kill(actor, no_restart=False)

    def close(self) -> None:
        """Disconnect; the actors end with the connection. Idempotent."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def _join(self) -> bool:
        import ray

        with self._lock:
            if self._closed:
                return False
            try:
                ray.init(
                    address=self._address,
                    namespace="actionmesh",
                    log_to_driver=False,  # an actor's log stays on its node: `ray logs`
                    configure_logging=False,
                    runtime_env={"env_vars": {"PYTHONPATH": _ROOT}},
                )
            except (OSError, RuntimeError, ValueError) as exc:
                log.error("the Ray cluster at %s cannot be joined: %s", self._address, exc)
                return False
            self._ray = ray
            if self._available() > 0:
                return True
            log.error("the Ray cluster at %s has no %s yet", self._address, self._resource)
            self._disconnect()
            return False

    def _disconnect(self) -> None:
        if self._ray:
            self._ray.shutdown()
            self._ray = None

    def _available(self) -> int:
        return int(self._ray.cluster_resources().get(self._resource, 0))

    def _connected(self) -> Any:
        """The module ray. Raises ProcessLost after `close`."""
        if not self._ray:
            raise ProcessLost("the server is stopping")
        return self._ray
