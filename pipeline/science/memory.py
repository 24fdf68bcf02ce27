"""The memory that is available."""

from pathlib import Path

import psutil

LIMITS = {  # of a container: the file of its limit, the file of its usage
    "/sys/fs/cgroup/memory.max": "/sys/fs/cgroup/memory.current",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": "/sys/fs/cgroup/memory/memory.usage_in_bytes",
}


def available() -> int:
    """The bytes of memory that this process can still use, within the limit of a container."""
    free: int = psutil.virtual_memory().available
    for limit, used in LIMITS.items():
        if Path(limit).is_file() and (text := Path(limit).read_text().strip()).isdecimal():
            free = min(free, max(int(text) - int(Path(used).read_text()), 0))
    return free


def gib(size: int) -> str:
    """A number of bytes as GiB, for messages."""
    return f"{size / 2**30:.1f} GiB"
