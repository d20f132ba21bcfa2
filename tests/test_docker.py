"""The files in docker/: linted for real, nothing open or unpinned, and the server's command line really runs."""

import base64
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
import yaml
from postgres import binaries
from servers import free_port

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
FROM = [line.split()[1] for line in (DOCKER / "Dockerfile").read_text().splitlines() if line.startswith("FROM")]
PINNED = r"[a-z/-]+:\d+\.\d[\w.-]*@sha256:[0-9a-f]{64}"
SECRET = "correct-horse-battery"


def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((DOCKER / name).read_text())


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


def lint(*command: str) -> str:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=DOCKER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hadolint_has_nothing_to_say() -> None:
    assert lint("hadolint", "Dockerfile") == ""


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_compose_schema_is_kept(name: str) -> None:
    assert "ok" in lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", name)


def test_hadolint_would_object(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python\nRUN cd /tmp && sudo pip install uv\n")
    done = subprocess.run([BIN / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DL3006" in done.stdout


def test_images_are_pinned_by_version_and_content() -> None:
    others = {each["image"] for each in services().values() if "build" not in each}
    for image in [*FROM, *others]:
        assert re.fullmatch(PINNED, image), image
    assert len(set(FROM)) == 1, "what is built in one image runs in another"


def test_the_image_is_set_up_as_the_makefile_does() -> None:
    dockerfile, makefile = (DOCKER / "Dockerfile").read_text(), (ROOT / "Makefile").read_text()
    uv = re.search(r"uv==[\d.]+", makefile)
    assert uv is not None
    assert uv.group() in dockerfile
    assert "--require-hashes -r requirements.lock" in dockerfile
    assert "--no-deps -e ." in dockerfile
    kept = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    assert sorted(kept) == sorted(name for names in copied for name in names.split())
    assert all((ROOT / name).exists() for name in kept)


def test_the_image_holds_what_the_server_needs_to_ask_for_a_password() -> None:
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    extra = {"extra": "auth"}
    needed = [need for text in requires("mlflow") or [] if (need := Requirement(text)).marker and "auth" in text]
    needed = [need for need in needed if need.marker is not None and need.marker.evaluate(extra)]
    lock = (ROOT / "requirements.lock").read_text()
    assert needed
    for need in needed:
        found = re.search(rf"^{need.name.lower()}==(\S+)", lock, re.MULTILINE)
        assert found, f"{need.name} is not in the lock: depend on mlflow[auth]"
        assert need.specifier.contains(found.group(1))


def test_nobody_is_root_and_nobody_can_become_it() -> None:
    users = re.findall(r"^USER (\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert users
    assert users[-1].split(":")[0] not in ("root", "0")
    for name, service in services().items():
        if "build" not in service:
            assert service["user"] not in ("root", "0"), name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name


def test_ports_are_open_on_this_machine_only() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert "network_mode" not in (DOCKER / "compose.yaml").read_text()


def test_secrets_have_no_default_and_stand_in_no_command() -> None:
    secrets = 0
    for service in services().values():
        for name, value in service["environment"].items():
            if re.search("PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), name
                secrets += 1
        assert not re.search("PASSWORD|SECRET", str(service["command"]))
    assert secrets >= 6
    for path in DOCKER.iterdir():
        if path.name != ".env":
            assert not re.search(r"://[^\s/@]+:[^\s/@]+@", path.read_text()), f"a password in {path.name}"
    assert ".env" in (DOCKER / ".gitignore").read_text().split()


def test_the_readme_makes_everything_that_compose_asks_for() -> None:
    compose, readme = (DOCKER / "compose.yaml").read_text(), (DOCKER / "README.md").read_text()
    needed, known = set(re.findall(r"\$\{(\w+):\?", compose)), set(re.findall(r"\$\{(\w+):", compose))
    secrets = re.search(r"for name in ([A-Z_ ]+);", readme)
    wishes = re.search(r"printf '%s\\n' (.+) >> \.env", readme)
    assert secrets is not None
    assert wishes is not None
    named = {wish.partition("=")[0] for wish in wishes.group(1).split()}
    assert needed <= set(secrets.group(1).split()) | named <= known


def test_only_images_are_named_by_address() -> None:
    for path in DOCKER.iterdir():
        for address in re.findall(r"https?://([\w.-]+)", path.read_text()):
            assert address in ("127.0.0.1", "mlflow") or address.endswith(".example"), f"{address} in {path.name}"


def test_everything_waits_for_what_it_needs_and_stops_in_order() -> None:
    for name, service in services().items():
        assert service["restart"] != "no", name
        assert "stop_grace_period" in service, name
        assert isinstance(service["command"], list), f"{name}: a shell would keep the signals to itself"
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}, name
            assert "healthcheck" in services()[needed], needed
    worker = services()["worker"]
    assert set(worker["depends_on"]) == {"postgres", "mlflow"}
    assert worker["command"][-1].startswith("exec ")
    assert worker["stop_grace_period"].endswith("m")
    assert "container_name" not in worker, "it could not be scaled"
    assert "ports" not in worker, "it could not be scaled"


def test_options_of_the_worker_exist() -> None:
    from typer.main import get_command

    from experiments.tune import app

    known = {option for param in get_command(app).params for option in param.opts}
    words = services()["worker"]["command"][-1].split()
    assert words[1:4] == ["python", "-m", "experiments.tune"]
    assert {word for word in words if word.startswith("--")} <= known


def test_the_gpu_override_changes_the_workers_only() -> None:
    override = compose("compose.gpu.yaml")["services"]
    assert list(override) == ["worker"]
    (device,) = override["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[int]:
    """PostgreSQL with scram passwords on a loopback port, prepared by databases.sql."""
    bin_folder, folder, port = binaries(), Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp")), free_port()
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    paths = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    (folder / "password").write_text(SECRET)
    shutil.copy(DOCKER / "databases.sql", folder)
    if as_user:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")

    def run(*command: str, **environment: str) -> None:
        with (folder / "output").open("ab") as output:
            done = subprocess.run(
                [*as_user, shutil.which(command[0], path=paths), *command[1:]],
                **{"stdout": output, "stderr": output, "cwd": folder, "timeout": 120, "check": False},
                env={**os.environ, "PGPASSWORD": SECRET, **environment},
            )
        assert done.returncode == 0, (folder / "output").read_text()

    data, where = str(folder / "data"), ["--host", "127.0.0.1", "--port", str(port), "--username", "postgres"]
    run("initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    run("pg_ctl", "-D", data, "-o", f"-p {port} -h 127.0.0.1 -k {folder}", "-l", str(folder / "log"), "-w", "start")
    try:
        made = {"OPTUNA_DB_PASSWORD": f"{SECRET}-optuna", "MLFLOW_DB_PASSWORD": f"{SECRET}-mlflow"}
        run("psql", *where, "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-f", str(folder / "databases.sql"), **made)
        yield port
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def ask(port: int, path: str, password: str | None = None) -> int:
    request = Request(f"http://127.0.0.1:{port}{path}")
    if password is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    try:
        with urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


@pytest.mark.proof
def test_the_topology_with_real_processes(databases: int, tmp_path: Path) -> None:
    """The server's command and configuration, on a PostgreSQL that databases.sql prepared; other addresses only."""
    port, service = free_port(), services()["mlflow"]
    settings = configparser.ConfigParser()
    settings.read(DOCKER / "auth.ini")
    settings["mlflow"]["database_uri"] = settings["mlflow"]["database_uri"].replace(
        "postgres:5432", f"127.0.0.1:{databases}"
    )
    with (tmp_path / "auth.ini").open("w") as stream:
        settings.write(stream)
    given = {"${MLFLOW_DB_PASSWORD": f"{SECRET}-mlflow", "${MLFLOW_ADMIN_PASSWORD": SECRET, "${MLFLOW_SECRET": "s" * 32}
    environment = {
        name: next((word for head, word in given.items() if value.startswith(head)), value)
        for name, value in service["environment"].items()
    } | {"MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini")}
    words = [
        word.replace("0.0.0.0", "127.0.0.1")
        .replace("--port=5000", f"--port={port}")
        .replace("postgres:5432", f"127.0.0.1:{databases}")
        .replace("=/artifacts", f"={tmp_path / 'artifacts'}")
        for word in service["command"]
    ]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [BIN / words[0], *words[1:]],
            **{"cwd": tmp_path, "stdout": log, "stderr": log, "start_new_session": True},
            env={**os.environ, **environment},
        )
    try:
        until(lambda: ask(port, "/health") == 200, server, tmp_path / "log")
        search = "/api/2.0/mlflow/experiments/search?max_results=1"
        assert ask(port, search) == 401
        assert ask(port, search, "password1234") == 401
        assert ask(port, search, SECRET) == 200
        publish_through(port, databases, tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def until(ready: Any, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 180
    while time.monotonic() < end and server.poll() is None:
        try:
            if ready():
                return
        except (URLError, OSError):
            time.sleep(0.5)
    pytest.fail(log.read_text()[-3000:])


def publish_through(port: int, databases: int, folder: Path) -> None:
    """What a worker does: a study in Optuna's database, its runs and their files through the server."""
    code = f"""
from pathlib import Path
import optuna
from tracking.story import small_study
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher
study = optuna.create_study(storage="postgresql://optuna@127.0.0.1:{databases}/optuna", study_name="demo")
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
journal = Journal(Path("mlruns"))
small_study(journal)
journal.run("demo-1").write("figures/roc.txt", "a figure")
publisher = Publisher(journal, "http://127.0.0.1:{port}", Path("mlruns"))
assert publisher.publish_all() == 5
import psycopg
try:
    psycopg.connect("postgresql://optuna@127.0.0.1:{databases}/mlflow")
except psycopg.OperationalError as refused:
    print("refused" if "permission denied" in str(refused) else refused)
"""
    words = {"PGPASSWORD": f"{SECRET}-optuna", "MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRET}
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        **{"cwd": folder, "capture_output": True, "text": True, "timeout": 300, "check": False},
        env={**os.environ, **words, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "refused", "a worker reaches the server's database"
    assert any((folder / "artifacts").rglob("roc.txt")), "artifacts did not go through the server"
