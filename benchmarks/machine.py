"""What the machine says of processes and of itself, read from /proc."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(roots: Iterable[int]) -> list[int]:
    """Return the process ids of `roots` and of all their descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                children.setdefault(_stat(int(entry.name))[0], []).append(int(entry.name))
    found, todo = [], list(roots)
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """Return the CPU time that the process trees took so far, ended children included."""
    total = 0
    for pid in tree(roots):
        with suppress(OSError, ValueError):
            total += _stat(pid)[1]
    return total / TICKS


def memory_mb(roots: Iterable[int]) -> tuple[float, float]:
    """Return resident and proportional set size of the process trees, in MB."""
    sums = {"Rss:": 0, "Pss:": 0}
    for pid in tree(roots):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                name, *rest = line.split()
                if name in sums:
                    sums[name] += int(rest[0])
    return round(sums["Rss:"] / 1024, 1), round(sums["Pss:"] / 1024, 1)


class Noise:
    """What disturbs a measurement: CPU that the host took away, and that others here used.

    `ours` are the roots of the process trees that belong to it.
    """

    def __init__(self, ours: Iterable[int]) -> None:
        self._ours = list(ours)
        self._began = self._now()

    def percent(self) -> dict[str, float]:
        """Return both in percent of the machine's CPU since this was made."""
        stolen, busy, total, ours = (
            now - then for now, then in zip(self._now(), self._began, strict=True)
        )
        elsewhere = max(0.0, busy - ours)
        return {
            "steal": round(100 * stolen / max(1, total), 1),
            "elsewhere": round(100 * elsewhere / max(1, total), 1),
        }

    def _now(self) -> tuple[float, float, float, float]:
        with Path("/proc/stat").open() as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = ticks
        busy = user + nice + system + irq + softirq
        return steal, busy, busy + idle + iowait + steal, cpu_seconds(self._ours) * TICKS


def description() -> str:
    """Return one line about this machine: processors, memory, system."""
    model = _field("/proc/cpuinfo", "model name") or platform.machine()
    memory = int((_field("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) // 1024**2
    return (
        f"{os.cpu_count()} x {model}, {memory} GiB, {_distribution()}, kernel {platform.release()}"
    )


def _stat(pid: int) -> tuple[int, int]:
    """Return the parent's id and the ticks taken, those of ended children included."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), sum(map(int, fields[11:15]))


def _field(path: str, name: str) -> str | None:
    return next((value for key, value in _fields(path) if key == name), None)


def _fields(path: str) -> Iterator[tuple[str, str]]:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()


def _distribution() -> str:
    with suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return platform.system()
