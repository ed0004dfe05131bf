"""Recycling: when a worker should make way for a fresh one, through the same door as any stop."""

import os
import resource
import sys
from pathlib import Path

from pgjobs.conf import conf

_STATM = Path("/proc/self/statm")
_MEGABYTE = 1024 * 1024


class Recycling:
    """Counts what a worker did and tells when it was enough."""

    def __init__(self) -> None:
        self._max_jobs = conf.JOBS_WORKER_MAX_JOBS
        self._max_megabytes = conf.JOBS_WORKER_MAX_MEMORY_MB
        self._max_lost = conf.JOBS_WORKER_MAX_LOST_THREADS
        self._runs = 0

    def count_run(self) -> str:
        """Note that a run ended; return why the worker should be recycled, "" if it should not."""
        self._runs += 1
        return f"{self._runs} runs ended" if self._runs == self._max_jobs else ""

    def of_memory(self) -> str:
        """Return why, if the process takes more memory than it may."""
        if self._max_megabytes and (megabytes := resident_bytes() // _MEGABYTE) > (
            self._max_megabytes
        ):
            return f"it takes {megabytes} MB of memory"
        return ""

    def of_lost(self, lost: int) -> str:
        """Return why, if more threads are lost than may be."""
        return f"{lost} threads are lost" if lost > self._max_lost else ""


def resident_bytes() -> int:
    """Return the memory of this process that is in RAM; where that cannot be read, its peak."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
