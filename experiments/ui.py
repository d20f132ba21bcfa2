"""Open what was learned: `python -m experiments.ui [--port 5000]` serves MLflow on this machine only."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated
from urllib.error import URLError
from urllib.request import urlopen

import typer

from experiments.cli import Verb, run, verb

app = verb()
HOST = "127.0.0.1"


@app.command(cls=Verb)
def ui(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
    mlruns: Annotated[Path, typer.Option(help="The tracking folder.")] = Path("mlruns"),
) -> None:
    """Serve the MLflow pages of a tracking folder, and print where each study's leaderboard is."""
    from mammo_lightning.errors import TrackingError

    if not (mlruns / "mlflow.db").is_file():
        raise TrackingError(f"no mlflow.db in '{mlruns}'; run `python -m experiments.tune` first, or pass --mlruns")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that just ended blocks nobody
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise TrackingError(f"port {port} cannot be used ({error.strerror}); pass another --port") from None
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell started it deaf to Ctrl-C
        signal.signal(number, _stop)
    server = _start(mlruns.resolve(), port)
    try:
        links = _links(mlruns, port)  # looked up while the server starts
        _wait(server, port)
        for link in links or [f"no study is in '{mlruns}' yet: http://{HOST}:{port}"]:
            print(link, flush=True)
        print("Ctrl-C ends it", flush=True)
        code = server.wait()
        raise TrackingError(f"the MLflow server ended by itself (exit code {code}); what it said stands above")
    except KeyboardInterrupt:
        print("ended", file=sys.stderr)
    finally:
        _end(server)


def _start(mlruns: Path, port: int) -> subprocess.Popen[bytes]:
    from mammo_lightning.tracking.store import default_uri

    # no background jobs and one worker: one reader on one machine
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"]
    stores = ["--backend-store-uri", default_uri(mlruns), "--artifacts-destination", (mlruns / "artifacts").as_uri()]
    quiet = ["--uvicorn-opts", "--log-level warning"]
    # in a session of its own: at Ctrl-C it is this process that ends it, and its children with it; what it says
    # goes to stderr, so that nothing but links is on stdout
    return subprocess.Popen([*command, *stores, *quiet], env=environment, start_new_session=True, stdout=sys.stderr)


def _links(mlruns: Path, port: int) -> list[str]:
    from mammo_lightning.tracking.store import Store, default_uri
    from mammo_lightning.tracking.views import leaderboard_link, leaderboards

    client = Store(default_uri(mlruns), mlruns).client
    found = [
        (created, study, leaderboard_link(f"http://{HOST}:{port}", experiment.experiment_id, key))
        for experiment in client.search_experiments()
        for created, study, key in leaderboards(experiment.tags)
    ]
    return [f"{study}: {link}" for _, study, link in sorted(found)]


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        try:
            with urlopen(f"http://{HOST}:{port}/health", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)


def _end(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        os.killpg(server.pid, signal.SIGTERM)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run(app)
