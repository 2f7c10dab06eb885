"""Kills servers and children at random under load, and counts broken promises.

`python -m tests.faults.random_kills 1000 [seed]`; Ctrl-C ends it early. It is several runs beside
each other. In each, servers run one after another on one JOBS_DIR, and a client sends, cancels and
deletes jobs. After each kill the files on disk are checked; every 25 kills of a run all jobs may
finish, and the results are compared with what the API promised. Exit code 1 if anything was broken.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import httpx

from job.folder import is_job_id
from job.state import JobStatus
from tests.faults.inspection import faults, records
from tests.faults.process_pool import ForkedServer, ProcessPool
from tests.faults.processes import adopt_orphans, command, descendants, is_alive
from tests.faults.test_kill import QUICK, SLOW
from tests.video.clips import numbered
from tests.waiting import wait_until

RUNS_PER_CORE = 2
"""While one run waits for a moment to kill, others use the core."""
REST_EVERY = 25
"""After this number of kills all jobs may finish."""
PAUSE_S = 0.05
"""Between two rounds of the client."""
SELDOM = 0.05
WAITING = 3
"""The client sends no more jobs while this many have not ended."""
STEP_S = 15.0
"""A server that was to end at a step, and has not reached it after so long, is killed."""
CHILD_S = 3.0
"""No child or ffmpeg is killed if none has run for so long."""
STEPS = (*QUICK, *SLOW, "delete:asked", "delete:trashed", "change:cancelled", "changed:cancelled")


class Client(threading.Thread):
    """Sends, cancels and deletes jobs, and records what the API promised.

    `chance_to_cancel` and `chance_to_delete` are those of each look at a job that has not ended.
    """

    def __init__(self, url: str, clip: bytes, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.kept: set[str] = set()
        self.deleted: set[str] = set()
        self.resting = threading.Event()
        self.chance_to_cancel = self.chance_to_delete = SELDOM
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=10.0)
        self._clip = clip
        self._chance = chance
        self._waiting: set[str] = set()
        self._busy = threading.Lock()

    def run(self) -> None:
        """Until the process ends; pauses while `resting` is set."""
        while True:
            if self.resting.is_set():
                time.sleep(PAUSE_S)
                continue
            with self._busy, contextlib.suppress(httpx.HTTPError):
                self._one_step()
            time.sleep(PAUSE_S)

    def rest(self) -> None:
        """Pause; no request is in progress once this returns."""
        self.resting.set()
        with self._busy:
            self._waiting.clear()

    def _one_step(self) -> None:
        if len(self._waiting) < WAITING:
            reply = self._http.post("/jobs", files={"file": ("a.mp4", self._clip)})
            if reply.status_code == 202:
                job_id = reply.json()["job_id"]
                self.kept.add(job_id)
                self._waiting.add(job_id)
            return
        for job_id in list(self._waiting):
            found = self._http.get(f"/jobs/{job_id}")
            status = found.json().get("status") if found.status_code == 200 else "gone"
            if status not in ("queued", "running"):
                self._waiting.discard(job_id)
            if self._chance.random() < self.chance_to_cancel:
                self._http.post(f"/jobs/{job_id}/cancel")
            if self._chance.random() < self.chance_to_delete:
                self.delete(job_id)

    def wait_for_end(self, job_id: str) -> None:
        """Until the job has ended, or for a minute."""
        with contextlib.suppress(httpx.HTTPError):
            self._http.get(f"/jobs/{job_id}", params={"wait": 55}, timeout=60.0)

    def delete(self, job_id: str) -> None:
        """Delete a job: from the request on it may be gone; after a 200 it must be."""
        self.kept.discard(job_id)
        self._waiting.discard(job_id)
        if self._http.delete(f"/jobs/{job_id}").status_code == 200:
            self.deleted.add(job_id)


class Torture:
    """The server, the client and the counts of failures."""

    def __init__(self, server: ForkedServer, client: Client, chance: random.Random) -> None:
        self.server = server
        self.client = client
        self.broken: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.enough = threading.Event()
        self._chance = chance

    def run(self, count: int) -> None:
        """Kill `count` times."""
        self.server.start()
        self.client.start()
        while self.kills.total() < count and not self.enough.is_set():
            self._kill_once()
        self.rest()
        if self.server.stop() != 0:
            self.broken["bad exit"] += 1
        self._check_stopped_server()

    def _kill_once(self) -> None:
        done = self.kills.total()
        kind = self._chance.choices(("server", "step", "child", "ffmpeg"), (45, 15, 30, 10))[0]
        getattr(self, f"_kill_{kind}")()
        if self.kills.total() // REST_EVERY > done // REST_EVERY:
            self.rest()
            self.client.resting.clear()
            say(f"{self.kills.total()} kills, broken: {dict(self.broken)}")

    # --- kinds of kills

    def _kill_server(self, crash_at: str = "") -> None:
        self._wait_a_little()
        self.server.kill()
        self.kills["server"] += 1
        self._check_stopped_server()
        self.server.start(crash_at=crash_at)

    def _kill_step(self) -> None:
        """The next server kills itself at a random step, the first or second time it gets there."""
        step = self._chance.choice(STEPS)
        if "cancelled" in step:
            self.client.chance_to_cancel = 0.5
        if "delete" in step:
            self.client.chance_to_delete = 0.5
        self._kill_server(step if "#" in step else f"{step}#{self._chance.choice('112')}")
        with contextlib.suppress(AssertionError):
            self.server.wait_for_end(STEP_S)
            self.kills["server at a step"] += 1
        self.client.chance_to_cancel = self.client.chance_to_delete = SELDOM
        if self.server.is_running:  # it did not reach that step
            self.server.kill()
            self.kills["server"] += 1
        self._check_stopped_server()
        self.server.start()

    def _kill_child(self) -> None:
        self._kill_below("child/main.py", "child")

    def _kill_ffmpeg(self) -> None:
        # a running one, not one that only prints its version
        self._kill_below("-nostdin", "ffmpeg")

    def _kill_below(self, mark: str, kind: str) -> None:
        self._wait_a_little()
        found: list[int] = []

        def look() -> bool:
            found[:] = [pid for pid in descendants(self.server.pid) if mark in command(pid)]
            return bool(found)

        with contextlib.suppress(AssertionError, ProcessLookupError):
            wait_until(look, CHILD_S)
            os.kill(self._chance.choice(found), signal.SIGKILL)
            self.kills[kind] += 1
        if not self.server.answers():
            self.broken["server died with its child"] += 1

    def _wait_a_little(self) -> None:
        time.sleep(10 ** self._chance.uniform(-2.0, 0.4))

    # --- checks

    def _check_stopped_server(self) -> None:
        """Before the next server starts: every promised job must be on disk."""
        try:
            wait_until(lambda: not any(is_alive(pid) for pid in self.server.orphans()))
        except AssertionError:
            self.broken["orphans"] += 1
            say(f"orphans: {[command(pid) for pid in self.server.orphans()]}")
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # adopted processes that have ended
                pass
        was_resting = self.client.resting.is_set()
        self.client.rest()  # its records are complete once its last request has failed
        found = records(self.server.jobs_dir)
        folders = {p.name for p in self.server.jobs_dir.iterdir() if is_job_id(p.name)}
        self._count("unreadable record", folders - set(found))
        self._count("lost job", self.client.kept - set(found))
        self._count("job deleted and back", self.client.deleted & set(found))
        if not was_resting:
            self.client.resting.clear()

    def rest(self) -> None:
        """Let all jobs finish, compare, and delete the finished ones."""
        self.client.rest()
        deadline = time.monotonic() + 300.0
        while (unended := self._unended()) and time.monotonic() < deadline:
            self.client.wait_for_end(unended[0])
        try:
            wait_until(lambda: not self._unended() and not faults(self.server.jobs_dir))
        except AssertionError:
            self._count("fault at rest", set(faults(self.server.jobs_dir)))
        found = records(self.server.jobs_dir)
        self._count("lost job", self.client.kept - set(found))
        self.ended.update(found[job_id].status.value for job_id in self.client.kept & set(found))
        codes = {
            job.job_id: str((job.error or {}).get("code"))
            for job in found.values() if job.status is JobStatus.ERROR
        }  # fmt: skip
        odd = {f"{job_id} {code}" for job_id, code in codes.items() if code != "worker_crashed"}
        self._count("job failed without a kill", odd)
        for job_id in found:
            self.client.delete(job_id)
        try:
            wait_until(lambda: not any((self.server.jobs_dir / ".trash").iterdir()))
        except AssertionError:
            self.broken["trash is not emptied"] += 1
        self.client.kept.clear()

    def _unended(self) -> list[str]:
        found = records(self.server.jobs_dir)
        return [job_id for job_id, job in found.items() if not job.status.is_terminal]

    def _count(self, what: str, which: set[str]) -> None:
        if which:
            self.broken[what] += len(which)
            say(f"{what}: {sorted(which)[:3]}")


def say(text: str) -> None:
    """Print one line at once."""
    print(f"{time.strftime('%H:%M:%S')} {os.getpid()} {text}", flush=True)


def one_run(count: int, seed: int) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """One server after another on a JOBS_DIR of their own: the kills, how jobs ended, what broke.

    SIGINT and SIGTERM end it early.
    """
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="torture-") as folder, adopt_orphans():
        clip = numbered(Path(folder) / "clip.mp4", 16).read_bytes()
        process_pool = ProcessPool()
        server = ForkedServer(process_pool, Path(folder))
        client = Client(f"http://127.0.0.1:{server.port}", clip, chance)
        torture = Torture(server, client, chance)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: torture.enough.set())
        try:
            torture.run(count)
        except BaseException:
            say(server.output()[-4000:])
            raise
        finally:
            server.close()
            process_pool.close()
    return torture.kills, torture.ended, torture.broken


def main(arguments: list[str]) -> int:
    """Run; exit code 0 if nothing broke."""
    count = int(arguments[0]) if arguments else 1000
    seed = int(arguments[1]) if len(arguments) > 1 else random.randrange(1 << 30)
    say(f"{count} kills, seed {seed}")
    began = time.monotonic()
    at_once = max(1, min(RUNS_PER_CORE * (os.cpu_count() or 1), count // REST_EVERY))
    shares = [len(range(k, count, at_once)) for k in range(at_once)]
    with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as runs:
        results = list(runs.map(one_run, shares, range(seed, seed + at_once)))
    kills, ended, broken = (sum(counts, Counter[str]()) for counts in zip(*results, strict=True))
    say(f"{kills.total()} kills in {time.monotonic() - began:.0f} s ({_listed(kills)}); "
        f"jobs: {_listed(ended)}; broken: {_listed(broken) or 'nothing'}")  # fmt: skip
    return 1 if broken else 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
