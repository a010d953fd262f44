"""How many CPU cores this process may use."""

import math
import os
from pathlib import Path


def cpu_budget(root: Path = Path("/")) -> int:
    """Cores this process may use: the smaller of its affinity mask and its cgroup quota, at least 1.

    `os.cpu_count()` alone counts the machine's cores and starts 64 threads in a container of two.

    Args:
        root: where /proc and /sys are found; tests give their own.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota(root)
    return cores if quota is None else max(1, min(cores, math.floor(quota)))


def _cgroup_quota(root: Path) -> float | None:
    """CPU quota of our cgroup in cores, the tightest on the way up; None where there is none."""
    quotas = [*_quotas_v2(root), *_quotas_v1(root)]
    return min(quotas) if quotas else None


def _own_groups(root: Path) -> list[tuple[str, str]]:
    """(controllers, path) of each line of /proc/self/cgroup."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[1], part[2]) for part in parts if len(part) == 3]


def _quotas_v2(root: Path) -> list[float]:
    """Quotas of cgroup v2: `cpu.max` holds "QUOTA PERIOD" in µs, or "max PERIOD"."""
    base = root / "sys/fs/cgroup"
    folders = {base}
    for controllers, path in _own_groups(root):
        if not controllers:
            own = base / path.lstrip("/")
            folders.update(folder for folder in (own, *own.parents) if folder.is_relative_to(base))
    quotas = []
    for folder in folders:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return quotas


def _quotas_v1(root: Path) -> list[float]:
    """Quotas of cgroup v1: two files in µs, -1 for none."""
    base = root / "sys/fs/cgroup/cpu"
    folders = {base} | {
        base / path.lstrip("/") for names, path in _own_groups(root) if "cpu" in names.split(",")
    }
    quotas = []
    for folder in folders:
        try:
            quota = int((folder / "cpu.cfs_quota_us").read_text())
            period = int((folder / "cpu.cfs_period_us").read_text())
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            quotas.append(quota / period)
    return quotas
