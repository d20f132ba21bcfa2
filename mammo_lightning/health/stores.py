"""The stores: the tracking server or database, the study storage, and what stands in them as running."""

from __future__ import annotations

import base64
import ipaddress
import os
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from mammo_lightning.health import owners
from mammo_lightning.health.finding import Finding, bad, listed, ok, warn
from mammo_lightning.health.machine import network
from mammo_lightning.tracking.store import public

FLOOR = (3, 17)
PATIENCE = 3.0
SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite address."""
    scheme, _, rest = uri.partition("://")
    return Path(rest.removeprefix("/")) if scheme.partition("+")[0] == "sqlite" else None


def tracking(uri: str) -> Iterator[Finding]:
    """Whether the tracking store answers, is new enough, and is not open to everybody."""
    what = "tracking"
    if uri.startswith(("http://", "https://")):
        yield from server(uri.rstrip("/"))
    elif (file := sqlite_file(uri)) is None:
        with owners.reading(uri) as connection:
            runs = "runs" in owners.tables(connection)
        yield ok(what, f"{public(uri)} answers{'' if runs else ', and holds no run yet'}")
    elif not file.exists():
        yield ok(what, f"no '{file.name}' yet; the first study makes it")
    else:
        with sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5) as database:
            database.execute("SELECT count(*) FROM experiments").fetchone()
        yield from _place(what, file)


def server(uri: str) -> Iterator[Finding]:
    """An MLflow server: reachable, new enough, and where others can reach it asking for a password."""
    what, shown = "tracking", public(uri)
    try:
        status, text = _get(f"{uri}/version", _credentials(uri))
    except (OSError, URLError) as error:
        reason = getattr(error, "reason", error)
        yield bad(
            what, f"{shown} does not answer ({reason})", "Start it; studies go on without it, `sync` delivers later"
        )
        return
    found = tuple(int(part) for part in text.strip().split(".")[:2] if part.isdigit()) if status == 200 else ()
    if len(found) < 2:
        yield bad(what, f"{shown} answers {status} when asked for its version", "Is it an MLflow server?")
        return
    if found < FLOOR:
        floor = ".".join(map(str, FLOOR))
        yield bad(what, f"{shown} is MLflow {text.strip()}, older than {floor}", "Update the server")
    if _get(uri + SEARCH, None)[0] == 200:
        if outside := _outside(uri):
            cure = "Bind it to 127.0.0.1, or start it with --app-name basic-auth"
            yield bad(what, f"{shown} answers everybody who reaches {outside}, without a password", cure)
        elif found >= FLOOR:
            yield ok(what, f"{shown} answers (MLflow {text.strip()}), on this machine only")
        return
    status, _ = _get(uri + SEARCH, _credentials(uri))
    if status == 200:
        yield ok(what, f"{shown} answers (MLflow {text.strip()}) and asks for a password")
    else:
        cure = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        yield bad(what, f"{shown} refuses these credentials ({status})", cure)


def _get(url: str, credentials: str | None) -> tuple[int, str]:
    parts = urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = Request(bare, headers={"Authorization": credentials} if credentials else {})
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status), str(answer.read(200).decode(errors="replace"))
    except HTTPError as error:
        return error.code, ""


def _credentials(uri: str) -> str | None:
    """What MLflow's client would send."""
    parts = urlsplit(uri)
    user = parts.username or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = parts.password or os.environ.get("MLFLOW_TRACKING_PASSWORD")
    if user and password:
        return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return f"Bearer {token}" if token else None


def _outside(uri: str) -> str:
    """An address by which other machines reach the server; empty if it is on loopback only."""
    import psutil

    parts = urlsplit(uri)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    addresses = {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(host, port)}
    if not all(ipaddress.ip_address(each).is_loopback for each in addresses):
        return f"{host}:{port}"
    own = [each.address for found in psutil.net_if_addrs().values() for each in found if each.family == socket.AF_INET]
    for address in own:
        if not ipaddress.ip_address(address).is_loopback:
            try:
                with socket.create_connection((address, port), timeout=0.3):
                    return f"{address}:{port}"
            except OSError:
                continue
    return ""


def storage(uri: str) -> Iterator[Finding]:
    """Whether the study storage opens, is whole, and lies where SQLite is safe."""
    what, file = "storage", sqlite_file(uri)
    if file is None:
        with owners.reading(uri) as connection:
            count = len(owners.studies(connection))
        yield ok(what, f"{public(uri)} answers, {count} studies")
        return
    if not file.exists():
        yield ok(what, f"no '{file.name}' yet; the first study makes it")
        return
    cure = "Restore it from a backup; the runs themselves are in the journal"
    try:
        with sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=5) as database:
            (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        yield bad(what, f"'{file}' cannot be read ({error})", cure)
        return
    if answer != "ok":
        yield bad(what, f"'{file}' is damaged ({answer})", cure)
        return
    yield from _place(what, file)


def _place(what: str, file: Path) -> Iterator[Finding]:
    if not os.access(file, os.W_OK):
        yield bad(what, f"'{file}' cannot be written to", "Mend its permissions")
    elif kind := network(file):
        cure = "Use a server database, or a local --mlruns"
        yield warn(what, f"'{file}' is SQLite on a network file system ({kind}), where locks do not hold", cure)
    else:
        yield ok(what, f"'{file}' opens")


def trials(uri: str) -> Iterator[Finding]:
    """Trials that the search takes to be running though nobody works on them."""
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return
    with owners.reading(uri) as connection:
        held, open_trials = owners.living(connection), owners.running(connection)
    dead = [name for study, number in open_trials if (name := f"{study}.t{number:03d}") not in held]
    if dead:
        text = f"{len(dead)} running in the storage, their owners gone ({listed(dead)})"
        yield warn("trials", text, "Start their command again: it takes them up")
    else:
        yield ok("trials", f"{len(open_trials)} running, all with a living owner" if open_trials else "none is running")
