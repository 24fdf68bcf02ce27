"""How much memory there is."""

from pathlib import Path

import psutil

LIMITS = {  # of a container: what it may take, and what it takes
    "/sys/fs/cgroup/memory.max": "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "/sys/fs/cgroup/memory/memory.usage_in_bytes",
}


def available() -> int:
    """The bytes of memory that this process can still get, in a container by its limit."""
    free: int = psutil.virtual_memory().available
    for limit, used in LIMITS.items():
        if Path(limit).is_file() and (text := Path(limit).read_text().strip()).isdecimal():
            free = min(free, max(int(text) - int(Path(used).read_text()), 0))
    return free


def gib(size: int) -> str:
    """Bytes for people to read."""
    return f"{size / 2**30:.1f} GiB"
