"""A tracking folder with finished studies, made once for all tests of the registry; each test has a copy."""

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

from fakes import write_microcalc

from mammo_lightning.recipe import make_recipe
from mammo_lightning.study import run_study
from mammo_lightning.tracking.store import Store, default_uri

KEYS = {"dataset": "microcalc", "classifier": "linear", "trials": 1, "folds": 3, "workers": 1}
#: two models of the same images, and one whose threshold lets little pass
STUDIES = {
    "first": {"set": {"regularisation": 1.0}},
    "second": {"set": {"regularisation": 0.9}},
    "strict": {"operating_point": "spec0.99"},
}


@functools.cache
def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="registered-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_microcalc(folder / "images", patients=30, test=170)
    for name, more in STUDIES.items():
        keys = {**KEYS, "name": name, "mlruns": folder / "mlruns", "root": folder / "images", **more}
        run_study(make_recipe(keys))
    empty = folder / "empty"
    empty.mkdir()
    Store(default_uri(empty), empty).client.search_experiments()
    return folder


def copied(to: Path) -> Path:
    """A tracking folder with the studies in its journal, and a database that knows nothing of them."""
    made = _made()
    to.mkdir(parents=True)
    shutil.copytree(made / "mlruns" / "journal", to / "journal", ignore=shutil.ignore_patterns("published-*", ".*"))
    shutil.copy(made / "mlruns" / "test_reads.jsonl", to)
    shutil.copy(made / "empty" / "mlflow.db", to)
    return to
