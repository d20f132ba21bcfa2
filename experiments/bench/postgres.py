"""A PostgreSQL server of our own on a free loopback port, where its programs are installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def programs() -> Path | None:
    """The folder of initdb, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@contextmanager
def server(folder_of_programs: Path) -> Iterator[str]:
    """Its address; run by the user postgres where we are root, which it refuses to be."""
    folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, "postgres", "postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(program: str, *options: str) -> None:
        with (folder / "output").open("ab") as output:  # no pipe: the server would hold it open
            command = [*as_user, str(folder_of_programs / program), "-D", str(folder / "data"), *options]
            subprocess.run(command, stdout=output, stderr=output, cwd=folder, timeout=120, check=True)

    run("initdb", "-U", "mammo", "-A", "trust")
    run("pg_ctl", "-o", f"-p {port} -h 127.0.0.1 -k {folder}", "-l", str(folder / "log"), "-w", "start")
    try:
        yield f"postgresql://mammo@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)
