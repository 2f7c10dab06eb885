"""The numbers of /metrics for Prometheus: jobs by outcome, their time, and what runs now.

Updated by a listener of the store; each app has its own registry. No label holds a job id, file
name or address. The route is in status.py.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from executors.base import SlotStatus
from job.folder import JobsFolder
from job.state import Job, JobStatus
from job_store import JobStore

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200, 1800)


class Metrics:
    """Counts what happens to the jobs of one server."""

    def __init__(self, store: JobStore, folder: JobsFolder) -> None:
        self._store = store
        self._folder = folder
        registry = self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._live: set[str] = set()
        self._jobs = Counter(
            "actionmesh_jobs", "Jobs that ended.", ("status", "mode"), registry=registry
        )
        self._job_seconds = Histogram(
            "actionmesh_job_seconds",
            "From start to end of finished jobs.",
            ("mode",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "actionmesh_stage_seconds",
            "Time that finished jobs spent in each stage.",
            ("stage",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._peak_mb = Gauge(
            "actionmesh_child_peak_rss_megabytes",
            "Peak memory of the last finished job's process.",
            registry=registry,
        )
        self._by_status = Gauge(
            "actionmesh_jobs_under_way", "Jobs by status.", ("status",), registry=registry
        )
        self._busy = Gauge(
            "actionmesh_slot_busy", "1 while a slot runs a job.", ("slot",), registry=registry
        )
        self._ready = Gauge(
            "actionmesh_slot_ready", "1 if its pipeline is loaded.", ("slot",), registry=registry
        )
        self._uploads = Gauge(
            "actionmesh_uploads", "Bodies that are being received.", registry=registry
        )
        self._free = Gauge(
            "actionmesh_disk_free_bytes", "Free space on the disk of JOBS_DIR.", registry=registry
        )

    def recovered(self) -> None:
        """The jobs of the last server that have not ended are counted too."""
        with self._lock:
            self._live |= {job.job_id for job in self._store.live()}

    def changed(self, job: Job) -> None:
        """One of the store's listeners, in whichever thread made the change."""
        with self._lock:
            if not job.status.is_terminal:
                self._live.add(job.job_id)
                return
            if job.job_id not in self._live:
                return  # counted before: now a warning was added, or the job was deleted
            self._live.remove(job.job_id)
        self._jobs.labels(job.status.value, job.options.mode).inc()
        if job.status is JobStatus.FINISHED and job.result and job.started_at and job.finished_at:
            took_s = (job.finished_at - job.started_at).total_seconds()
            self._job_seconds.labels(job.options.mode).observe(took_s)
            for stage, seconds in job.result.timings.items():
                self._stage_seconds.labels(stage).observe(seconds)
            self._peak_mb.set(job.result.peak_rss_mb)

    def text(self, uploads: int, slots: Sequence[SlotStatus]) -> bytes:
        """The text format. Reads the disk: not for the event loop."""
        for slot in slots:
            self._busy.labels(str(slot.number)).set(slot.is_busy)
            self._ready.labels(str(slot.number)).set(slot.pipeline.is_ready)
        live = self._store.live()
        running = sum(job.status is JobStatus.RUNNING for job in live)
        self._by_status.labels("running").set(running)
        self._by_status.labels("queued").set(len(live) - running)
        self._uploads.set(uploads)
        try:
            self._free.set(self._folder.free_bytes())
        except OSError:  # JOBS_DIR is gone
            self._free.set(math.nan)
        return generate_latest(self._registry)
