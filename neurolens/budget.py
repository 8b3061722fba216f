"""budget: what memory and disk a run may take, by default what is free now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

MARGIN = 0.1  # of what is free, that is left to others


def free_memory() -> int:
    """Bytes of memory that can be had now without swapping: the machine's, or what a container leaves of its limit."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # not Linux: half of what there is
    return min([free, *_containers()])


def _containers() -> list[int]:
    """What the limits of the control groups around this process leave; page cache counts as free."""
    left = []
    try:
        groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return left
    for _, controllers, path in (group for group in groups if len(group) == 3):
        version2 = not controllers
        if not version2 and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") if version2 else Path("/sys/fs/cgroup/memory")
        names = ("memory.max", "memory.current", "inactive_file")
        if not version2:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        here = root / path.lstrip("/")
        for folder in (here, *here.parents):
            if folder.is_relative_to(root):
                left += _left(folder, *names)
    return left


def _left(folder: Path, limit: str, usage: str, reclaimable: str) -> list[int]:
    try:
        most, used = (int((folder / name).read_text()) for name in (limit, usage))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return [max(0, most - used + int(statistics.get(reclaimable, 0)))]
    except (OSError, ValueError):  # no such group, or no limit: "max"
        return []


def own_memory() -> int:
    """Bytes that this process has taken: anonymous and shared, without files that are mapped. 0 where it is unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def free_disk(path: Path) -> int:
    """Free bytes of the disk that `path`, which need not exist, is on."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free
