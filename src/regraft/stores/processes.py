"""Processes of this machine: which one is meant by a number, and whether it still runs."""

import os
import socket
from contextlib import suppress
from pathlib import Path


def machine() -> str:
    """This machine since its last start, as seen from this container: process numbers mean the same within it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def started(pid: int) -> str:
    """When the process was started, in the system's own count; "" when it does not run. Numbers are used again."""
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    if not Path("/proc/self/stat").exists():
        with suppress(OSError):
            os.kill(pid, 0)
            return "running"
    return ""
