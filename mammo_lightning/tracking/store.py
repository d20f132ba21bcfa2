"""The MLflow store a journal is published to: its address, its database, its experiments."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from filelock import FileLock

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.patience import Patience, Patient
from mammo_lightning.types import digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"
_EXPECTED = "expected http(s)://host:port, sqlite:///<file> or postgresql://user@host/name"
_CURE = "Leave --tracking-uri out for the local database"
#: a password in the query of an address, and one before its host
_SECRET = re.compile(r"((?:password|token|secret)=)[^&\s'\"]+", re.IGNORECASE)
_LOGIN = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def default_uri(mlruns: Path) -> str:
    """The local database of a tracking folder."""
    return f"sqlite:///{Path(mlruns).resolve() / DATABASE}"


def check_uri(uri: str) -> str:
    """The address as it is used: a relative database file is made absolute; anything else wrong raises."""
    scheme, sign, rest = uri.partition("://")
    kind = scheme.partition("+")[0]
    if not sign or kind not in (*_SERVERS, *DATABASES):
        raise TrackingError(f"tracking URI {public(uri)!r} names no server or database; {_EXPECTED}. {_CURE}")
    if kind == "sqlite":
        path = rest.removeprefix("/")
        if not path or path == rest or path == ":memory:" or path.endswith("/"):
            raise TrackingError(f"tracking URI {uri!r} names no file; expected sqlite:///<file>. {_CURE}")
        _check_driver(uri, scheme)
        file = Path(path).resolve()
        if not file.parent.is_dir():
            raise TrackingError(f"tracking URI {uri!r}: no such folder '{file.parent}'; make it first. {_CURE}")
        return f"{scheme}:///{file}"
    try:
        parts = urlsplit(uri)
        complete = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number, a bracket that is not closed
        complete = False
    if not complete or any(character.isspace() for character in uri):
        raise TrackingError(f"tracking URI {public(uri)!r} has no valid host and port; {_EXPECTED}. {_CURE}")
    if kind in DATABASES:
        _check_driver(uri, scheme)
    return uri


def _check_driver(uri: str, scheme: str) -> None:
    """Refuse a database that no installed driver speaks to: found out later, a study would end unpublished."""
    if scheme == "sqlite":  # Python's own
        return
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except (NoSuchModuleError, ArgumentError):
        raise TrackingError(
            f"tracking URI {public(uri)!r}: there is no database or driver {scheme!r}; {_EXPECTED}. {_CURE}"
        ) from None
    except ImportError as error:
        name = error.name or scheme
        raise TrackingError(
            f"tracking URI {public(uri)!r} needs the driver {name!r}, which is not installed; install it. {_CURE}"
        ) from None


def way_in(uri: str | None, mlruns: Path) -> str:
    """What to run before a browser finds what was published there; nothing where a server runs already."""
    if uri is None or check_uri(uri) == default_uri(mlruns):
        own = Path(mlruns).resolve() == Path("mlruns").resolve()
        return (
            "`make ui` (or `python -m experiments.ui`)"
            if own
            else f"`python -m experiments.ui --mlruns {quote(str(mlruns))}`"
        )
    if uri.startswith(_SERVERS):
        return ""
    return f"`mlflow server --backend-store-uri {quote(public(check_uri(uri)))} --host 127.0.0.1`"


def sync_command(store: Store) -> str:
    """What delivers the rest later."""
    command = "python -m experiments.sync"
    if store.mlruns != Path("mlruns").resolve():
        command += f" --mlruns {quote(str(store.mlruns))}"
    return command if store.uri == default_uri(store.mlruns) else f"{command} --tracking-uri {quote(public(store.uri))}"


def public(uri: str) -> str:
    """An address without its password, wherever in it that stands."""
    uri = _SECRET.sub(r"\1...", uri)
    head, sign, tail = uri.partition("://")
    if "@" not in tail:
        return uri
    who, _, where = tail.rpartition("@")
    return f"{head}{sign}{who.partition(':')[0]}@{where}"


def without_user(uri: str) -> str:
    """An address as it is opened in a browser, which asks for the name."""
    head, sign, tail = uri.partition("://")
    return f"{head}{sign}{tail.rpartition('@')[2]}"


def told(text: str) -> str:
    """What may be printed of a message that others wrote: no password of an address in it."""
    return _SECRET.sub(r"\1...", _LOGIN.sub(r"\1@", text))


def _make(database: Path) -> None:
    """Make a database file beside its place: MLflow cannot go on with one whose making was cut short."""
    if database.exists():
        return
    from mlflow import MlflowClient

    part = database.with_name(f"{database.name}.part")
    part.unlink(missing_ok=True)
    uri = f"sqlite:///{part}"
    MlflowClient(uri, uri).search_experiments(max_results=1)
    part.replace(database)


class Store:
    """One MLflow store, opened when it is first needed."""

    def __init__(self, uri: str, mlruns: Path) -> None:
        self.uri = check_uri(uri)
        self.key = digest(self.uri)
        self.mlruns = Path(mlruns).resolve()
        self._client: MlflowClient | None = None
        self.patience = Patience()
        #: id and mark of the experiments asked for so far
        self.opened: dict[str, tuple[str, str]] = {}

    @property
    def is_shared(self) -> bool:
        """Whether other machines may write to it."""
        return not self.uri.startswith("sqlite")

    @property
    def is_server(self) -> bool:
        """Whether it is asked over HTTP."""
        return self.uri.startswith(_SERVERS)

    @property
    def client(self) -> MlflowClient:
        """The client; on first use a database is created, by one process at a time."""
        if self._client is None:
            logging.getLogger("alembic").setLevel(logging.WARNING)
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it is raised, and told in one line
            if self.is_server:
                self._client = self._opened()
            else:
                self.mlruns.mkdir(parents=True, exist_ok=True)
                with FileLock(self.mlruns / f".{DATABASE}.lock"):  # migrations run by two at once break the database
                    if not self.is_shared:
                        _make(Path(self.uri.partition(":///")[2]))
                    self._client = self._opened()
        return self._client

    def _opened(self) -> MlflowClient:
        from mlflow import MlflowClient

        self.patience.heard()  # the import may have taken seconds
        client = cast("MlflowClient", Patient(MlflowClient(self.uri, self.uri), self.patience))
        client.search_experiments(max_results=1)
        return client

    def experiment(self, name: str) -> tuple[str, str]:
        """Id of the experiment called `name`, made if need be, and a mark that a new database would not have."""
        if name not in self.opened:
            found = self.client.get_experiment_by_name(name)
            if found is None:
                found = self._create(name)
            elif found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
            self.opened[name] = (str(found.experiment_id), f"{found.experiment_id}@{found.creation_time}")
        return self.opened[name]

    def _create(self, name: str) -> Any:
        from mlflow.exceptions import MlflowException

        # a server knows where its artifacts belong; a database would put them under the working directory
        location = None if self.is_server else (self.mlruns / "artifacts").as_uri()
        try:
            self.client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.get_experiment_by_name(name)
