"""Who becomes champion: what is shown, what is refused, what is written down, and that a kill loses nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from registered import copied
from tracking.test_registry import Killed, killed_at

from mammo_lightning.errors import MammoError, SettingsError, TrackingError
from mammo_lightning.evaluation.noninferiority import Verdict
from mammo_lightning.registration.promote import LOG, Refused, judge, promote
from mammo_lightning.registration.register import register_run
from mammo_lightning.runs import Runs
from mammo_lightning.tracking.registry import ModelRegistry
from mammo_lightning.tracking.store import check_uri, default_uri
from mammo_lightning.tracking.versions import OWNER, Version
from mammo_lightning.types import Level, OperatingPoint, Predictions


class House:
    """A tracking folder, with both steps bound to it."""

    def __init__(self, mlruns: Path) -> None:
        self.mlruns, self.uri = mlruns, default_uri(mlruns)

    def register(self, word: str, name: str, **more: Any) -> list[str]:
        return register_run(word, name, mlruns=self.mlruns, uri=self.uri, **more).lines

    def promote(self, word: str, **more: Any) -> list[str]:
        return promote(word, mlruns=self.mlruns, uri=self.uri, **more).lines

    @property
    def registry(self) -> ModelRegistry:
        return ModelRegistry(Runs(self.mlruns).journal, self.uri, self.mlruns)

    def log(self, name: str) -> list[dict[str, Any]]:
        path = self.mlruns / LOG
        entries = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        return [entry for entry in entries if entry["name"] == name]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(copied(tmp_path_factory.mktemp("promotion") / "mlruns"))


@pytest.fixture
def tagged(house: House) -> Iterator[Callable[..., None]]:
    """Say something of the run `second` that its study did not say, for as long as a test lasts."""
    run = Runs(house.mlruns).named(["second"])[0].run
    before = run.read_tags()
    yield lambda **tags: run.tags(tags)
    run.tags({"synthetic": before["synthetic"], "leaky": before["leaky"], "unverified": ""})


def two(house: House, name: str, challenger: str = "second", champion: str = "first", **more: Any) -> None:
    house.register(champion, name, alias="challenger", **more)
    house.promote(name)
    house.register(challenger, name, alias="challenger")


def test_an_equal_challenger_takes_the_place_and_all_of_it_is_told(house: House) -> None:
    two(house, "equal")
    lines = house.promote("equal")
    assert any("equal version 2 becomes champion (shown); version 1 is previous-champion" in line for line in lines)
    assert any(line.startswith("sensitivity ") and "97.5 % bound" in line for line in lines)
    assert house.registry.aliases("equal") == {"champion": 2, "previous-champion": 1, "challenger": 2}
    first, second = house.log("equal")
    assert first["answer"] == "no champion before"
    assert (
        second.items() >= {"answer": "shown", "from_version": 1, "version": 2, "margin": 0.05, "override": None}.items()
    )
    assert second["tpr"]["lo"] > -0.05
    assert second["power"]["tnr"] > 0.8
    assert "@" in second["who"]
    version = house.registry.version("equal", 2)
    assert "version 2 to champion, was version 1: shown; sensitivity" in version.tags["promotion.champion"]
    assert version.tags["promotion.champion"] in version.description
    page = house.registry.model("equal").description
    assert page.index("version 2 to champion") < page.index("version 1 to champion")


def test_a_worse_one_is_refused_with_reasons_and_nothing_moves_unless_it_is_overridden(house: House) -> None:
    two(house, "worse", challenger="strict")
    with pytest.raises(Refused, match="non-inferiority to worse version 1 is not shown") as refused:
        house.promote("worse")
    assert any("sensitivity -0." in reason and "beyond the margin" in reason for reason in refused.value.reasons)
    assert house.registry.aliases("worse")["champion"] == 1
    assert house.log("worse")[-1]["outcome"] == "refused"
    lines = house.promote("worse", override="  fewer\nalarms ")
    assert "override: fewer alarms" in lines
    assert house.registry.aliases("worse") == {"champion": 2, "previous-champion": 1, "challenger": 2}
    assert house.log("worse")[-1]["override"] == "fewer alarms"
    assert (
        "override: fewer alarms (against: non-inferiority"
        in house.registry.version("worse", 2).tags["promotion.champion"]
    )


def test_a_margin_too_small_for_the_data_is_underpowered(house: House) -> None:
    two(house, "narrow", margin=0.001)
    with pytest.raises(
        Refused, match="is underpowered \\(margin 0.001\\).*power to show it, were there no difference, 0"
    ):
        house.promote("narrow")
    assert house.log("narrow")[-1]["answer"] == "underpowered"


def test_the_margin_is_fixed_by_who_says_it_first(house: House) -> None:
    house.register("first", "fixed", alias="challenger")
    house.promote("fixed", margin=0.1)
    house.register("second", "fixed", alias="challenger")
    with pytest.raises(SettingsError, match=r"--margin 0.05: the margin of 'fixed' was fixed at 0.1 beforehand"):
        house.promote("fixed", margin=0.05)
    with pytest.raises(SettingsError, match="was fixed at 0.1 beforehand"):
        house.register("second", "fixed", margin=0.2)
    house.promote("fixed", margin=0.1)
    assert [entry["margin"] for entry in house.log("fixed")] == [0.1, 0.1]
    for margin in (0.0, 1.0, float("nan")):
        with pytest.raises(SettingsError, match="is no share between 0 and 1"):
            house.promote("fixed", margin=margin)


def test_rolling_back_is_a_promotion_of_the_former_version(house: House) -> None:
    two(house, "back", challenger="strict")
    house.promote("back", override="tried")
    house.promote("back/1", override="it missed too much")
    assert house.registry.aliases("back") == {"champion": 1, "previous-champion": 2, "challenger": 2}
    assert [(entry["from_version"], entry["version"]) for entry in house.log("back")] == [(None, 1), (1, 2), (2, 1)]
    with pytest.raises(Refused, match="not shown"):  # what was overridden once is not overridden for ever
        house.promote("back")


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"synthetic": "true"}, "SYNTHETIC: its images were generated"),
        ({"leaky": "true"}, "LEAKY: patients stood on both sides"),
        ({"unverified": "folds, threshold"}, "unverified: folds, threshold"),
    ],
)
def test_what_must_not_be_promoted_is_not_even_where_there_is_no_champion(
    house: House, tagged: Callable[..., None], tags: dict[str, str], reason: str
) -> None:
    name = f"not-{next(iter(tags))}"
    tagged(**tags)
    house.register("second", name, alias="challenger")
    with pytest.raises(Refused, match=reason):
        house.promote(name)
    assert "champion" not in house.registry.aliases(name)
    house.promote(name, override="a rehearsal")
    assert house.registry.aliases(name)["champion"] == 1


def test_without_test_figures_there_is_nothing_to_be_promoted_by(house: House) -> None:
    house.register("first/t000", "untested", alias="challenger")
    with pytest.raises(Refused, match="no test figures: run 'first-.*t000' has not read the test split"):
        house.promote("untested")


def test_other_test_rows_and_damaged_ones_are_no_comparison(tmp_path: Path) -> None:
    house = House(copied(tmp_path / "mlruns"))
    two(house, "rows")
    run = Runs(house.mlruns).named(["second"])[0].run
    path = run.artifacts / "predictions_test.parquet"
    whole = pd.read_parquet(path)
    run.write("predictions_test.parquet", whole.iloc[1:].to_parquet())
    with pytest.raises(Refused, match=r"cannot be compared: their test rows differ \(509 and 510 rows; image of "):
        house.promote("rows")
    turned = whole.assign(label=[1 - whole["label"].iloc[0], *whole["label"].iloc[1:]])
    run.write("predictions_test.parquet", turned.to_parquet())
    with pytest.raises(Refused, match=r"test rows differ \(510 and 510 rows; label of "):
        house.promote("rows")
    whole.to_parquet(path)  # not by the journal
    with pytest.raises(Refused, match="is not what run 'second-.* wrote"):
        house.promote("rows")
    run.write("predictions_test.parquet", whole.sample(frac=1, random_state=0).to_parquet())
    assert any("becomes champion (shown)" in line for line in house.promote("rows"))


def rows_of_patients() -> pd.DataFrame:
    """Four views of each patient; '12' and '12-b' are sorted otherwise by their keys than by names that begin so."""
    places = np.arange(160)
    patients = [f"{place // 8}{'-b' if place // 4 % 2 else ''}" for place in places]
    told = {"patient": patients, "group": patients, "laterality": np.where(places // 2 % 2, "L", "R"), "exam": "1"}
    told |= {"view": np.where(places % 2, "CC", "MLO"), "label": (places // 4 % 3 == 0).astype(int)}
    return pd.DataFrame({"image": [f"i{place}" for place in places], "fold": -1, "split": "test", **told})


class Judged:
    """A run that gave these scores, and calls from 0.5 on positive."""

    synthetic = leaky = False

    def __init__(self, run_id: str, level: str, frame: pd.DataFrame, scores: Any) -> None:
        self.run_id, self.level = run_id, Level(level)
        self.tags: dict[str, str] = {}
        self.points = {self.level: OperatingPoint(0.5, self.level, "fixed0.5")}
        table = frame.assign(p_benign=1 - scores, p_malignant=scores)
        self.table = Predictions(table.sample(frac=1, random_state=int(run_id)))

    def has(self, split: str) -> bool:
        return split == "test"

    def predictions(self, split: str) -> Predictions:
        return self.table


def judged(first: Judged, second: Judged) -> tuple[list[str], Verdict | None]:
    class Both:
        def get(self, run_id: str) -> Judged:
            return {"1": first, "2": second}[run_id]

    versions = [Version("m", int(each), {**OWNER, "journal": each}, "", "", "") for each in ("1", "2")]
    return judge(Both(), *versions, 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", ["view", "breast", "exam", "patient"])
def test_decisions_stay_with_their_rows_when_one_patient_is_called_as_another_begins(level: str) -> None:
    frame = rows_of_patients()
    right = Judged("1", level, frame, 0.1 + 0.8 * frame["label"])
    reasons, verdict = judged(right, Judged("2", level, frame, np.full(len(frame), 0.1)))
    assert reasons == []
    assert verdict is not None
    assert (verdict.answer, verdict.tpr.value, verdict.tnr.value) == ("shown", 1.0, 0.0)


def test_other_images_of_the_same_patients_are_no_comparison() -> None:
    frame = rows_of_patients()
    parts = [frame[frame["view"] == view] for view in ("CC", "MLO")]
    runs = [Judged(name, "patient", part, 0.1 + 0.8 * part["label"]) for name, part in zip("12", parts, strict=True)]
    (reason,), verdict = judged(*runs)
    assert verdict is None
    assert "their test images differ (160 stand in one of them only, as 'i0')" in reason


def test_a_place_that_was_taken_once_is_judged_anew_whatever_happened_under_other_aliases(house: House) -> None:
    two(house, "places", challenger="strict")
    house.promote("places", override="because")
    house.promote("places/2", to="staging", override="tried there")
    registry = house.registry
    assert {"promotion.champion", "promotion.staging"} <= set(registry.version("places", 2).tags)
    registry.point(registry.version("places", 1), "champion")  # by hand, as in MLflow's pages
    with pytest.raises(Refused, match="not shown"):
        house.promote("places/2")
    assert registry.aliases("places")["champion"] == 1


def test_a_former_champion_that_was_deleted_is_no_hindrance(house: House) -> None:
    two(house, "gone")
    house.promote("gone")
    house.registry.store.client.delete_model_version("gone", "1")
    assert any("gone version 2 is champion already" in line for line in house.promote("gone"))


def test_a_margin_that_somebody_spoilt_is_one_line(house: House) -> None:
    two(house, "spoilt")
    house.registry.store.client.set_registered_model_tag("spoilt", "promotion_margin", "5 %")
    with pytest.raises(TrackingError, match="the tag promotion_margin of 'spoilt' is '5 %', which is no share"):
        house.promote("spoilt")


def test_a_run_under_two_names_has_a_card_for_each(house: House) -> None:
    one, other = (Path(house.register("first", name)[-2].removeprefix("card: ")) for name in ("one", "other"))
    assert one != other
    assert "predict one/1" in one.read_text()
    assert "predict other/1" in other.read_text()


def test_versions_of_another_machine_are_judged_by_what_it_published(house: House, tmp_path: Path) -> None:
    two(house, "lab")
    server = tmp_path / "server"
    server.mkdir()
    uri = check_uri(f"sqlite:///{server / 'mlflow.db'}")
    there = House(copied(tmp_path / "there"))
    there.uri = uri
    two(there, "lab")
    here = House(tmp_path / "here")
    here.uri = uri
    lines = here.promote("lab")
    assert any("lab version 2 becomes champion (shown); version 1 is previous-champion" in line for line in lines)
    assert here.log("lab")[-1]["answer"] == "shown"
    borrowed = Runs(here.mlruns).get(here.log("lab")[-1]["run"])
    assert borrowed.borrowed
    theirs = Runs(there.mlruns).get(borrowed.run_id).run
    assert borrowed.run.events.read_bytes() == theirs.events.read_bytes(), "a borrowed run is not written to"


def test_a_kill_at_any_step_is_finished_by_the_same_command(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    steps, done = 0, False
    while not done:
        name = f"killed-{steps}"
        two(house, name)
        with monkeypatch.context() as patched:
            killed_at(patched, steps, after=False)
            try:
                house.promote(name)
                done = True
            except Killed:
                pass
        assert any(f"{name} version 2" in line for line in house.promote(name))
        assert house.registry.aliases(name) == {"champion": 2, "previous-champion": 1, "challenger": 2}
        assert [entry["version"] for entry in house.log(name)] == [1, 2], "logged twice, or not at all"
        version = house.registry.version(name, 2)
        assert version.tags["promotion.champion"] in version.description
        assert house.registry.model(name).description.count("version 2 to champion") == 1
        steps += 1
    assert steps > 4, "hardly anything was killed"


def test_again_changes_nothing_and_an_alias_moved_by_hand_is_judged_anew(house: House) -> None:
    two(house, "again", challenger="strict")
    house.promote("again", override="once")
    count = len(house.log("again"))
    assert any("again version 2 is champion already (not shown)" in line for line in house.promote("again"))
    assert len(house.log("again")) == count
    client = mlflow.MlflowClient(house.uri)
    client.set_registered_model_alias("again", "champion", "1")
    with pytest.raises(Refused, match="not shown"):
        house.promote("again")
    client.set_registered_model_alias("again", "champion", "2")
    client.update_registered_model("again", "Ours since May.\n\n" + house.registry.model("again").description)
    house.promote("again/1", override="back")
    page = house.registry.model("again").description
    assert page.startswith("Ours since May.")
    assert page.count("- 2") == 3


@pytest.mark.parametrize(
    ("word", "more", "message"),
    [
        ("nobody", {}, "no registered model 'nobody' in .*; known: "),
        ("known", {"source": "best"}, "no version of 'known' has the alias 'best'; known: challenger"),
        ("known/7", {}, "model 'known' has no version 7; known: 1"),
        ("known/x", {}, "'known/x' is NAME/VERSION; give a version number"),
        ("known/1", {"source": "challenger"}, "'known/1' is NAME/VERSION"),
        ("known", {"to": "challenger"}, "--from challenger and --to challenger are the same"),
        ("known", {"to": "latest"}, "'latest' is no alias"),
        ("known", {"override": " "}, "--override of 0 characters"),
        ("a b", {}, "is no model name"),
    ],
)
def test_bad_input_is_one_line(house: House, word: str, more: dict[str, Any], message: str) -> None:
    house.register("first", "known", alias="challenger")
    with pytest.raises(MammoError, match=message):
        house.promote(word, **more)


def test_a_version_made_by_hand_is_not_promoted(house: House) -> None:
    house.register("first", "hand", alias="challenger")
    mlflow.MlflowClient(house.uri).create_model_version("hand", str(house.mlruns / "artifacts"))
    with pytest.raises(TrackingError, match="hand version 2 was not registered from here"):
        house.promote("hand/2")


def test_champion_is_no_alias_to_register_with(house: House) -> None:
    for alias in ("champion", "previous-champion"):
        with pytest.raises(SettingsError, match=f"--alias {alias} is given by"):
            house.register("first", "taken", alias=alias)
    assert "taken" not in house.registry.names()


@pytest.mark.proof
def test_over_http_too(tmp_path: Path) -> None:
    from servers import Server

    house, server = House(copied(tmp_path / "mlruns")), Server(tmp_path / "server")
    server.start()
    try:
        house.uri = server.uri
        two(house, "remote")
        assert any("remote version 2 becomes champion (shown)" in line for line in house.promote("remote"))
        assert house.registry.aliases("remote") == {"champion": 2, "previous-champion": 1, "challenger": 2}
        server.kill()
        with pytest.raises(TrackingError, match="Is the server running"):
            house.promote("remote/1")
    finally:
        server.kill()
