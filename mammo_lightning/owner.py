"""Which process did something, and whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Owner:
    """A process, such that another one with its number is not mistaken for it."""

    host: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> Owner:
        """This process."""
        return cls(_host(), os.getpid(), _started(os.getpid()) or "")

    @classmethod
    def parse(cls, text: str) -> Owner:
        """What `str` wrote."""
        host, pid, started = text.rsplit("|", 2)
        return cls(host, int(pid), started)

    def __str__(self) -> str:
        return f"{self.host}|{self.pid}|{self.started}"

    @property
    def machine(self) -> str:
        """The name of its machine, whenever that was started."""
        return self.host.partition("/")[0]

    @property
    def near(self) -> bool:
        """Whether it is, or was, a process that can be looked for from here."""
        return self.host == _host()

    @property
    def alive(self) -> bool:
        """Whether a near process still runs."""
        return _started(self.pid) == self.started


def _host() -> str:
    """This machine since its last start, and the space its process numbers belong to (containers have their own)."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    since = boot.read_text()[:8] if boot.exists() else ""
    return f"{socket.gethostname()[:100]}/{since}/{space.readlink() if space.is_symlink() else ''}"


def _started(pid: int) -> str | None:
    """When a process began, in a unit that no change of the clock touches; None if it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError):
        return None
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.1f}"
    except psutil.Error:
        return None
