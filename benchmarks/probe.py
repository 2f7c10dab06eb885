"""Open-loop HTTP load on 127.0.0.1: requests are sent at fixed times, even if replies are late.

Latencies count from the scheduled time: a closed loop would send nothing while a server blocks.
Standard library only, and cheap, since it shares the machine with the server. Used by load.py.
"""

from __future__ import annotations

import asyncio
import resource
import time
from dataclasses import dataclass, field


@dataclass
class Latencies:
    """Results of a series of requests; times in seconds."""

    took_s: list[float] = field(default_factory=list)
    errors: int = 0
    late_s: list[float] = field(default_factory=list)
    """How late the tool itself was, to check it."""

    def percentile_ms(self, percent: float) -> float:
        """Milliseconds that `percent` of the requests did not exceed."""
        if not self.took_s:
            return float("nan")
        ordered = sorted(self.took_s)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Poller:
    """One kept connection that requests one path repeatedly."""

    def __init__(self, port: int, path: str) -> None:
        self._port = port
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> int:
        """The status of one reply, its body read. Raises OSError.

        Connects if needed, also if the kept connection was closed (uvicorn keeps idle ones for five
        seconds).
        """
        if self._streams is not None:
            try:
                return await self._ask(*self._streams)
            except OSError:
                self._streams = None
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return await self._ask(*self._streams)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        try:
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError) as exc:
            self.close()
            raise OSError("the reply broke off") from exc
        return int(head[9:12])

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def poll(self, first_at: float, every_s: float, until: float, into: Latencies) -> None:
        """Request at `first_at` and then every `every_s`, by the loop's clock."""
        clock = asyncio.get_running_loop().time
        due = first_at
        while due < until:
            await asyncio.sleep(due - clock())
            # a late reply delays the next request of this connection, not its scheduled time
            into.late_s.append(max(0.0, clock() - due))
            try:
                status = await asyncio.wait_for(self.ask(), 30.0)
                into.took_s.append(clock() - due)
                into.errors += status != 200
            except (OSError, asyncio.TimeoutError):
                self.close()
                into.errors += 1
            due += every_s


async def poll_together(
    port: int, path: str, pollers: int, every_s: float, seconds: float
) -> Latencies:
    """Several pollers, evenly spread over the interval."""
    found = Latencies()
    all_of_them = [Poller(port, path) for _ in range(pollers)]
    for poller in all_of_them:  # connect first, so that only polling is measured
        await poller.ask()
    start = asyncio.get_running_loop().time() + 0.2
    await asyncio.gather(
        *(
            poller.poll(start + every_s * k / pollers, every_s, start + seconds, found)
            for k, poller in enumerate(all_of_them)
        )
    )
    for poller in all_of_them:
        poller.close()
    return found


@dataclass
class Followers:
    """What the event streams received."""

    events: int = 0
    broken: int = 0


async def poll_beside_streams(
    port: int, path: str, streams: int, pollers: int, every_s: float, seconds: float
) -> tuple[Latencies, Followers]:
    """`poll_together` while other clients follow `path`/events from the start."""
    followers = Followers()
    begun = [asyncio.Event() for _ in range(streams)]
    tasks = [asyncio.create_task(_follow(port, f"{path}/events", followers, one)) for one in begun]
    await asyncio.gather(*(asyncio.wait_for(one.wait(), 30.0) for one in begun))
    found = await poll_together(port, path, pollers, every_s, seconds)
    followers.broken = sum(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return found, followers


async def _follow(port: int, path: str, into: Followers, begun: asyncio.Event) -> None:
    """Read one stream until it ends, which it should not."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        async for line in reader:
            if line.startswith(b"event: "):
                into.events += 1
                begun.set()
    finally:
        writer.close()


def allow_many_connections() -> None:
    """Raise the limit of descriptors to its maximum."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))


def open_connections(port: int, count: int, beginning: bytes) -> list[tuple[float, float]]:
    """Connections that send only `beginning`: when each was opened and closed by the server.

    Infinity for a connection that is still open after 75 s.
    """
    return asyncio.run(_open_connections(port, count, beginning))


async def _open_connections(port: int, count: int, beginning: bytes) -> list[tuple[float, float]]:
    async def hold() -> tuple[float, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened = time.monotonic()
        writer.write(beginning)
        try:
            await asyncio.wait_for(reader.read(), 75.0)
            return opened, time.monotonic()
        except asyncio.TimeoutError:
            return opened, float("inf")
        except OSError:
            return opened, time.monotonic()
        finally:
            writer.close()

    return list(await asyncio.gather(*(hold() for _ in range(count))))
