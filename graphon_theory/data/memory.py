"""How much memory there is, so that what cannot fit is refused before it is begun."""

from __future__ import annotations

import math
from pathlib import Path

from graphon_theory.errors import GraphonError, InputError

_SMALL = 1 << 27  # bytes that are not looked at
_GROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def available_memory() -> float:
    """Bytes that this process can still have, of the machine, its container and its own limit; infinity if unknown."""
    return min(_of_machine(), _of_container(), _of_process())


def refuse_beyond_memory(
    name: str, size: float, what: str, way_out: str, *, error: type[GraphonError] = InputError
) -> None:
    """Raise ``error`` where ``size`` bytes are more than there are: how many are needed, and the way out."""
    if size <= _SMALL:
        return
    there = available_memory()
    if size > there:
        gib = 1 << 30
        raise error(
            f"{name}: {what} would need {size / gib:,.1f} GiB of memory, and {there / gib:,.1f} GiB are free; "
            f"{way_out}."
        )


def _of_machine() -> float:
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024
    return math.inf


def _of_container() -> float:
    for limit, used in zip(_GROUP, _USED, strict=True):
        most, now = _read(limit).strip(), _read(used).strip()
        if most.isdecimal() and now.isdecimal():
            return float(most) - float(now)
    return math.inf


def _of_process() -> float:
    """What RLIMIT_AS leaves."""
    try:
        import resource  # not on Windows
    except ModuleNotFoundError:
        return math.inf
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        return math.inf
    pages = _read("/proc/self/statm").split()
    return most - float(pages[0]) * resource.getpagesize() if pages else math.inf


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
