"""From images on disk to a model in use: tune, ensemble, compare, register, promote, serve, predict, evaluate."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pandas as pd
import pytest
from following import Follower, check_page, check_scores, in_its_own_process, in_this_process, write_patients
from servers import free_port

from mammo_lightning import record
from mammo_lightning.evaluation.combining import RULES
from mammo_lightning.runs import Runs

SMALL = ("--trials", 2, "--folds", 3, "--epochs", 2, "--workers", 1, "--sampling", "exhaustive", "--level", "patient")
ENSEMBLE = r"run (ensemble-\w+):"


def tuned(user: Follower, table: Path, name: str, *words: object) -> None:
    said = user("tune", "--dataset", "table", "--table", table, "--name", name, *SMALL, *words)
    assert f"study {name}" in said.out
    assert "test split read" in said.out


def combined(user: Follower, *words: object) -> str:
    """The ensemble's id; its read of the test split was counted."""
    before = user.reads
    said = user("ensemble", *words, "--test")
    identity = said.named(ENSEMBLE)
    assert user.reads == [*before, identity]
    assert f"test split read {len(user.reads)} times" in said.out
    manifest = json.loads((user.run(identity).run.artifacts / "manifest.json").read_text())
    assert [each["digest"] for each in manifest["members"]] == [
        user.run(each["run"]).digest() for each in manifest["members"]
    ]
    return identity


def registered(user: Follower, run: str, version: int) -> None:
    said = user("register", run, "--name", "density-blind", "--alias", "challenger")
    assert f"density-blind version {version}: registered" in said.out
    card = Path(said.named(r"card: (.*)")).read_text()
    assert "Not a medical device" in card
    assert "test split" in card
    assert user.aliases("density-blind")["challenger"] == version


def test_a_small_study_becomes_a_champion(tmp_path):
    user = Follower(tmp_path, in_this_process)
    table = write_patients(tmp_path / "here", patients=24, test=12)
    tuned(user, table, "small", "--set", "init=4")
    identity = combined(user, "small", "--rule", "mean", "--members", 2)
    compared = user("compare", identity, "small", "--reference", "linear", "--no-gallery")
    assert "linear" in compared.out.partition("Holm")[0]
    check_page(tmp_path / "compare.html")
    registered(user, identity, 1)
    assert "becomes champion (no champion before)" in user("promote", "density-blind").out
    assert user.aliases("density-blind") == {"challenger": 1, "champion": 1}
    (entry,) = user.promotions
    assert (entry["run"], entry["outcome"], entry["reasons"]) == (identity, "promoted", [])
    said = user("predict", "density-blind@champion", table.parent / "images", "--out", "scores.csv")
    assert "72 images scored by density-blind version 1" in said.out
    check_scores(tmp_path / "scores.csv", user.run(identity), table)
    assert user.kinds() == {"study": 1, "trial": 2, "reference": 1, "final": 1, "ensemble": 1, "comparison": 1}


def test_a_study_that_knows_nothing_says_so_in_every_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "_draw", lambda *_, **__: None)  # pictures of the same, and most of the time
    user = Follower(tmp_path, in_this_process)
    table = write_patients(tmp_path / "here", patients=60, test=60, permuted=True)
    tuned(user, table, "none", "--classifier", "linear", "--trials", 3)
    study = Runs(user.mlruns).study("none").read_metrics()
    assert study["corrected_auc_lo"] < 0.5 < study["corrected_auc_hi"]
    made = [combined(user, "none", "--rule", rule, "--members", 3, "--no-model") for rule in RULES]
    (final,) = Runs(user.mlruns).named(["none"])
    for scored in (final, *map(user.run, made)):
        for name, none in (("val_auc", 0.5), ("test_auc", 0.5), ("test_patient/calibration_slope", 0.0)):
            lo, value, hi = (scored.metrics[f"{name}{end}"] for end in ("_lo", "", "_hi"))
            assert lo < none < hi, f"{scored.name}: {name} {value:.2f} ({lo:.2f}-{hi:.2f})"
        if scored.tags.get("rule") != "majority":  # whose scores are votes
            scores = scored.predictions("test").scores
            assert scores.mean() == pytest.approx(0.5, abs=0.05), "half of the patients are positive"
            assert scores.std() < 0.05, "and no image says more than that"
    for split in ([], ["--test"]):
        said = user("compare", *made, "none", "--reference", "none", "--no-gallery", *split).out
        assert re.search(r"No difference (in AUC )?from none is shown", said)
        blind = re.search(r"Not shown to be better than chance: (.*)\.", said)
        assert blind, said
        assert len(blind[1].split(", ")) == len(made) + 1
        assert " beats " not in said


@pytest.mark.proof
@pytest.mark.timeout(2400)  # some twenty processes, each of which imports everything
def test_two_studies_become_a_champion_that_is_served(tmp_path):
    user = Follower(tmp_path, in_its_own_process)
    table = write_patients(tmp_path / "here", patients=40, test=24)
    tuned(user, table, "small", "--set", "init=4")
    assert len(user.reads) == 1
    tuned(user, table, "plain", "--classifier", "linear")
    assert len(user.reads) == 2
    identity = combined(user, "small", "plain", "--rule", "mean", "--members", 4)
    for words in ([], ["--test"]):
        said = user("compare", identity, "small", "plain", "--reference", "plain", *words)
        assert "from plain" in said.out or "plain by" in said.out
        check_page(tmp_path / "compare.html")
    assert len(user.reads) == 3, "a comparison of test figures reads nothing"
    challenged(user, identity)
    user("predict", "density-blind@champion", table.parent / "images", "--out", "scores.csv")
    scores = check_scores(tmp_path / "scores.csv", user.run(identity), table)
    pictures = [cv2.imread(str(table.parent / "images" / name), cv2.IMREAD_UNCHANGED) for name in scores["path"][:5]]
    with Served(user, "models:/density-blind@champion") as served:
        for count in (1, 5):
            answer = served.post(np.stack(pictures[:count])[:, None])
            np.testing.assert_allclose([row["p_malignant"] for row in answer], scores["p_malignant"][:count], atol=1e-6)
    judged(user, identity, table)
    assert user.kinds() == {
        "study": 2, "trial": 4, "reference": 1, "final": 2, "ensemble": 1, "comparison": 2, "external": 2
    }  # fmt: skip


def challenged(user: Follower, identity: str) -> None:
    """The first has no champion before it; the second is not shown to be no worse, and takes its place by a word."""
    registered(user, "small", 1)
    user("promote", "density-blind")
    registered(user, identity, 2)
    said = user("promote", "density-blind", code=2)
    assert "density-blind version 2 does not become champion" in said.error
    assert "sensitivity" in said.error
    assert "specificity" in said.error
    assert user.aliases("density-blind") == {"challenger": 2, "champion": 1}
    said = user("promote", "density-blind", "--override", "the whole way is to be seen")
    assert "override: the whole way is to be seen" in said.out
    assert user.aliases("density-blind") == {"challenger": 2, "champion": 2, "previous-champion": 1}
    assert [each["outcome"] for each in user.promotions] == ["promoted", "refused", "promoted"]
    assert user.promotions[1]["answer"] in ("not shown", "underpowered")
    assert user.promotions[2]["override"] == "the whole way is to be seen"
    assert user.promotions[2]["reasons"]


def judged(user: Follower, identity: str, table: Path) -> None:
    """The champion on patients of elsewhere, and its own scores as if another tool had made them."""
    there = write_patients(user.folder / "elsewhere", patients=30, seed=1)
    words = ("--dataset", "table", "--table", there, "--sampling", "exhaustive")
    said = user("evaluate", "density-blind@champion", *words)
    external = user.run(said.named(r"run (external-[\w-]+):"))
    assert external.has("external")
    assert external.predictions("external").counts() == "30+/30- · 30 patients"
    assert external.metrics["external_auc"] > 0.6
    assert "calibration: slope" in said.out
    assert f"{external.points[external.level].threshold:.4g}" in said.out
    assert external.points == user.run(identity).points
    assert "trained on these images" in user.refused(
        "evaluate", "density-blind@champion", *words[:3], table, *words[4:]
    )
    own = pd.read_csv(user.folder / "scores.csv").assign(image=lambda found: "images/" + found["path"])
    listed = pd.read_csv(table).query("split == 'test'").rename(columns={"path": "image"})
    listed.merge(own.drop(columns="path"), on="image").to_csv(user.folder / "outside.csv", index=False)
    at = ("--level", "patient", "--threshold", 0.5, "--sampling", "exhaustive")
    said = user("evaluate", "--predictions", "outside.csv", *at)
    assert "unverified" in said.out
    outside = user.run(said.named(r"run (external-[\w-]+):"))
    assert outside.metrics["test_auc"] == pytest.approx(user.run(identity).metrics["test_auc"], abs=1e-6)


class Served:
    """`mlflow models serve` on loopback."""

    def __init__(self, user: Follower, model: str) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "--env-manager", "local"]
        environment = {**os.environ, "MLFLOW_TRACKING_URI": user.uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
        # the server is started by the name `uvicorn`, which must be found
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.log = user.folder / "served.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-h", "127.0.0.1", "-p", str(self.port)],
                cwd=user.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "Served":
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            try:
                with urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5):
                    return self
            except (URLError, OSError):
                time.sleep(0.2)
        raise AssertionError(f"the server did not start: {self.log.read_text()}")

    def __exit__(self, *about: object) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()

    def post(self, images: np.ndarray) -> list[dict[str, float]]:
        """What is answered to N x C x H x W pixels."""
        body = json.dumps({"inputs": images.tolist()}).encode()
        header = {"Content-Type": "application/json"}
        with urlopen(Request(f"http://127.0.0.1:{self.port}/invocations", body, header), timeout=60) as answer:
            return json.load(answer)["predictions"]
