"""The way from images on disk to a model in use, as a user goes it, and what can be seen of it afterwards."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from fakes import patch

from experiments.cli import run
from mammo_lightning.runs import Runs, Scored

ROOT = Path(__file__).parents[1]
CLASSES = ("benign", "malignant")
WIDE = "240"  # columns: no line of a table is broken


def write_patients(root: Path, *, patients: int, test: int = 0, seed: int = 0, permuted: bool = False) -> Path:
    """Two views of each patient in folders, and a csv that lists them; the last `test` patients are its test split.

    Labels that are permuted belong to the patients and have nothing to do with the images.
    """
    rng = np.random.default_rng(seed)
    rows = []
    ill = np.arange(patients + test) % 2
    said = np.concatenate([rng.permutation(ill[:patients]), rng.permutation(ill[patients:])]) if permuted else ill
    for number in range(patients + test):
        name = f"p{seed}-{number:03d}"
        split = "train" if number < patients else "test"
        for view in ("CC", "MLO"):
            path = Path("images") / f"{name}_{view}.png"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            plain = rng.random() < 0.15  # a view that shows nothing of what is there
            cv2.imwrite(str(root / path), patch(rng, 0 if plain else int(ill[number])))
            rows.append([path.as_posix(), name, CLASSES[said[number]], view, "ABCD"[number // 2 % 4], split])
    frame = pd.DataFrame(rows, columns=["path", "patient", "label", "view", "density", "split"])
    frame.drop(columns=[] if test else ["split"]).to_csv(root / "images.csv", index=False)
    return root / "images.csv"


@dataclass(frozen=True)
class Said:
    """How a verb ended, and what it said."""

    code: int
    out: str
    error: str

    def named(self, pattern: str) -> str:
        """What the first group of a pattern is in what was printed."""
        found = re.search(pattern, self.out)
        assert found, f"{pattern!r} is not in:\n{self.out}\n{self.error}"
        return found[1]


def in_this_process(folder: Path, verb: str, *words: str) -> Said:
    """A verb as its module runs it, without importing everything once more."""
    out, error = io.StringIO(), io.StringIO()
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    before, width = sys.argv, os.environ.get("COLUMNS")
    sys.argv, os.environ["COLUMNS"] = [verb, *words], WIDE
    try:
        with chdir(folder), redirect_stdout(out), redirect_stderr(error):
            run(importlib.import_module(f"experiments.{verb}").app)
    except SystemExit as ended:
        return Said(int(ended.code or 0), out.getvalue(), error.getvalue())
    finally:
        sys.argv = before
        os.environ.pop("COLUMNS") if width is None else os.environ.update(COLUMNS=width)
        for each, handler in handlers.items():
            signal.signal(each, handler)


def in_its_own_process(folder: Path, verb: str, *words: str) -> Said:
    """A verb as it is typed."""
    command = [sys.executable, "-m", f"experiments.{verb}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": WIDE}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, capture_output=True, timeout=900, check=False
    )
    return Said(done.returncode, done.stdout, done.stderr)


@dataclass
class Follower:
    """Somebody who types verbs in a folder and reads what they leave."""

    folder: Path
    how: Callable[..., Said]
    said: list[Said] = field(default_factory=list)

    def __call__(self, verb: str, *words: object, code: int = 0) -> Said:
        """Give a command that must end with `code`."""
        said = self.how(self.folder, verb, *map(str, words))
        self.said.append(said)
        assert said.code == code, f"{verb} {words} ended with {said.code}:\n{said.out}\n{said.error}"
        assert "Traceback" not in said.error
        if code == 2:
            assert said.error.startswith("error: ")
        return said

    def refused(self, verb: str, *words: object) -> str:
        """The one line that bad input ends in."""
        error = self(verb, *words, code=2).error.strip()
        assert len(error.splitlines()) == 1, error
        return error

    def run(self, name: str) -> Scored:
        """A run of the folder."""
        return Runs(self.mlruns).get(name)

    @property
    def mlruns(self) -> Path:
        """The tracking folder."""
        return self.folder / "mlruns"

    @property
    def reads(self) -> list[str]:
        """Who has read the test split, in order."""
        return [json.loads(line)["run"] for line in (self.mlruns / "test_reads.jsonl").read_text().splitlines()]

    @property
    def promotions(self) -> list[dict[str, object]]:
        """The lines of the promotion log."""
        return [json.loads(line) for line in (self.mlruns / "promotions.jsonl").read_text().splitlines()]

    @property
    def uri(self) -> str:
        """MLflow's database."""
        return f"sqlite:///{self.mlruns / 'mlflow.db'}"

    def kinds(self) -> dict[str, int]:
        """How many finished runs of each kind MLflow has."""
        runs = self._client().search_runs([each.experiment_id for each in self._client().search_experiments()])
        assert {run.info.status for run in runs} == {"FINISHED"}
        return pd.Series([run.data.tags["kind"] for run in runs]).value_counts().to_dict()

    def aliases(self, name: str) -> dict[str, int]:
        """Which version each alias of a registered model is."""
        return {alias: int(version) for alias, version in self._client().get_registered_model(name).aliases.items()}

    def _client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri)


def check_page(path: Path) -> None:
    """A comparison asks nobody for anything."""
    text = path.read_text()
    assert "<svg" in text
    assert not re.search(r"https?:|(src|href)=[\"']?//|@import", text)


def check_scores(scores: Path, scored: Scored, table: Path) -> pd.DataFrame:
    """A csv of scores, one a file, agrees with what the run itself said of the test split."""
    found = pd.read_csv(scores)
    assert list(found.columns) == ["path", "p_benign", "p_malignant"]
    np.testing.assert_allclose(found["p_benign"] + found["p_malignant"], 1)
    listed = pd.read_csv(table)
    below = table.parent / "images"
    assert set(found["path"]) == {(table.parent / path).relative_to(below).as_posix() for path in listed["path"]}
    said = scored.predictions("test").frame
    mine = found.assign(image="images/" + found["path"]).merge(said[["image", "p_malignant"]], on="image")
    assert len(mine) == (listed["split"] == "test").sum()
    np.testing.assert_allclose(mine["p_malignant_x"], mine["p_malignant_y"], atol=1e-6)
    assert np.ptp(mine["p_malignant_x"]) > 0.05
    return found
