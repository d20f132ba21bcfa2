"""Runs that other machines published, copied here to be read as if they were ours."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.courier import line
from mammo_lightning.tracking.files import below, check_name, file_digest, replace_tree
from mammo_lightning.tracking.journal import EVENTS, Journal, RunJournal
from mammo_lightning.tracking.shelf import Shelf
from mammo_lightning.tracking.store import Store, default_uri, public
from mammo_lightning.types import Kind, Outcome

#: artifacts that are fetched when they are needed, or looked at in MLflow
LEFT = ("models", "figures", "images")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]*", re.ASCII)
Loop = Callable[[Iterable[Any], str, int], Iterable[Any]]


class Borrower:
    """Copies runs from a store into the folder `borrowed`; what was made and ended here is never replaced."""

    def __init__(self, store: Store, mlruns: Path, say: Callable[[str], None], loop: Loop) -> None:
        self.store, self.say, self.loop = store, say, loop
        self.made, self.kept = Journal(mlruns), Journal(mlruns, borrowed=True)

    def bring(self, words: Iterable[str]) -> None:
        """Bring studies with their runs, or runs with their studies, by name, id or the start of an id."""
        found: dict[str, Any] = {}
        for word in words:
            found |= {run.data.tags["journal"]: run for run in self._meant(word)}
        lacking = [run for run in found.values() if self._is_lacking(run)]
        if lacking:
            what = f"fetching {len(lacking)} run{'' if len(lacking) == 1 else 's'} from {public(self.store.uri)}"
            for run in self.loop(lacking, what, len(lacking)):
                self._copy(run)

    def _meant(self, word: str) -> Iterator[Any]:
        """The runs that a word stands for, and all that is known of their study."""
        name, _, rest = word.partition("/")
        if not _NAME.fullmatch(name) or (rest and not _NAME.fullmatch(rest)):
            return
        studies = [each for each in self._search(f"tags.kind = 'study' and tags.study = '{name}'") if _is_top(each)]
        newest = studies[:1] or [
            each for each in self._search(f"tags.journal = '{name.split('.')[0]}'") if _is_top(each)
        ]
        if newest:
            yield newest[0]
            yield from self._below(f"{newest[0].data.tags['journal']}.")
        else:
            yield from self._below(name)

    def _below(self, prefix: str) -> Iterator[Any]:
        found = self._search(f"tags.journal LIKE '{prefix}%'")  # to which an underscore is any letter
        return (run for run in found if run.data.tags["journal"].startswith(prefix))

    def _search(self, words: str) -> Iterator[Any]:
        """Runs of all experiments, the newest first."""
        experiments = [each.experiment_id for each in self.store.client.search_experiments()]
        token = None
        while True:
            page = self.store.client.search_runs(
                experiments, words, order_by=["attributes.start_time DESC"], page_token=token
            )
            yield from (run for run in page if "journal" in run.data.tags)
            token = page.token
            if not token:
                return

    def _is_lacking(self, run: Any) -> bool:
        tags, run_id = run.data.tags, run.data.tags["journal"]
        if tags.get("kind") != Kind.study and run.info.status != "FINISHED":
            return False
        own = self.made.run(run_id)
        if own.begun() is not None and (own.outcome is Outcome.completed or run.info.status != "FINISHED"):
            return False
        # a trial that is completed stays as it is; a study or a final may be told more of
        return tags.get("kind") != Kind.trial or self.kept.run(run_id).begun() is None

    def _copy(self, run: Any) -> None:
        """Copy what a run said, and the files that figures are computed from; all of it or nothing."""
        from mlflow.exceptions import MlflowException

        target = self.kept.run(run.data.tags["journal"])
        shelf = Shelf(self.store.client, run.info.artifact_uri)
        target.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.folder.parent, prefix=".") as scratch:
            new = RunJournal(Path(scratch) / target.run_id)
            new.folder.mkdir()
            try:
                shelf.get(EVENTS, new.folder)
                if target.begun() is not None and file_digest(target.events) == file_digest(new.events):
                    return
                for name, digest in new.files().items():
                    if not any(below(each, name) for each in LEFT):
                        self._file(shelf, check_name(name), digest, new)
            except (MlflowException, OSError) as error:
                self.say(f"warning: run {target.run_id} cannot be fetched and is left out: {line(error)}")
                return
            replace_tree(new.folder, target.folder)

    def _file(self, shelf: Shelf, name: str, digest: str, new: RunJournal) -> None:
        path = new.artifacts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shelf.get(name, new.artifacts)
        if file_digest(path) != digest:
            raise OSError(f"{name} is not what the run wrote")


def borrow(words: Iterable[str], mlruns: Path, uri: str, say: Callable[[str], None], loop: Loop) -> None:
    """Bring what others published of some runs or studies, where the store is not this folder's own.

    A store that does not answer is said: what is here can be used without it.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    if uri == default_uri(mlruns):
        return
    try:
        Borrower(Store(uri, mlruns), mlruns, say, loop).bring(words)
    except (MlflowException, SQLAlchemyError, OSError, TrackingError) as error:
        say(f"warning: {public(uri)} does not answer ({line(error)}); only runs that are here are known")


def _is_top(run: Any) -> bool:
    return "." not in run.data.tags["journal"]
