"""What a card says: the figures that were journaled, the patients behind them, and nothing the run does not know."""

import json
import shutil
from pathlib import Path

import pytest
from registered import copied

from mammo_lightning.registration.card import Card, model_card
from mammo_lightning.registration.checklist import ITEMS, TITLE, UNKNOWN, checklist
from mammo_lightning.registration.facts import Facts, figures
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.tracking.versions import LONGEST
from mammo_lightning.types import Kind


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("card") / "mlruns")


@pytest.fixture
def final(mlruns: Path) -> Scored:
    return Runs(mlruns).named(["first"])[0]


def section(card: Card, name: str) -> str:
    return dict(card.sections)[name]


def test_the_first_line_is_the_conclusion_and_plain(final: Scored) -> None:
    card = model_card(final)
    auc, low, high = (final.metrics[f"test_auc{end}"] for end in ("", "_lo", "_hi"))
    assert f"AUC {auc:.2f} ({low:.2f}-{high:.2f})" in card.line
    assert "test split, 255+/255- · 170 patients" in card.line
    assert "research only" in card.line
    assert not card.line.startswith("#")
    assert "\n" not in card.line
    text = card.description("more is elsewhere")
    assert text.startswith(card.line + "\n\nmore is elsewhere\n\n## What it is")
    assert TITLE not in text


def test_figures_stand_with_their_counts_for_every_split(final: Scored) -> None:
    rows = section(model_card(final), "Figures").splitlines()
    assert "45+/45- · 30 patients" in next(row for row in rows if row.startswith("| out of fold"))
    test = next(row for row in rows if row.startswith("| test split"))
    specificity = 1 - final.metrics["test_fpr"]
    assert f"{specificity:.2f} (" in test
    assert "255+/255- · 170 patients" in test
    assert "was read 3 times by all studies, this model's read was number 1" in rows[-1]
    threshold = next(iter(final.points.values())).threshold
    point = section(model_card(final), "Operating point")
    assert f"{threshold:.4g}" in point
    assert "carried over from the cross-fitted scores" in point
    assert "The test split was read 3 times" in section(model_card(final), "Limits")


def test_patients_are_counted_by_class_and_subgroups_told(final: Scored) -> None:
    card = model_card(final)
    assert "| test split | cluster | 255 | 85 |" in section(card, "Data")
    assert "| out of fold | all | 90 | 30 |" in section(card, "Data")
    assert "INFN microcalcification" in section(card, "Data")
    assert "| source | b | test split |" in section(card, "Subgroups")


def test_a_value_with_one_class_has_no_auc_and_is_named(tmp_path: Path) -> None:
    run = Runs(copied(tmp_path / "mlruns")).named(["second"])[0]
    frame = run.predictions("test").frame
    frame = frame.assign(source=["x" if label else "y" for label in frame["label"]])
    run.run.write("predictions_test.parquet", frame.to_parquet())
    told = section(model_card(Runs(tmp_path / "mlruns").named(["second"])[0]), "Subgroups")
    assert "one class only: source x (test split, 255+/0- · 85 patients); source y" in told


def test_an_audit_of_the_same_rows_is_told_without_names_and_another_is_said_to_be_one(tmp_path: Path) -> None:
    mlruns = copied(tmp_path / "mlruns")
    final = Runs(mlruns).named(["first"])[0]
    digest = Facts(final).told["digest"]
    assert "No audit of these images is kept: `python" in section(model_card(final), "Data")
    other = mlruns / "journal" / "audit-microcalc-0123" / "artifacts"
    other.mkdir(parents=True)
    lines = [
        "- duplicate: 2 pairs of identical images under different patients: 0041u1 = 0222u1",
        "- note: cite somebody",
        "- shortcut: token 2 of the file name (column source), 's' in '0002s1_2.pgm', alone reaches AUC 0.91",
        "- leak: 1 patient in two splits: 0041u1",
    ]
    (other / "audit.md").write_text("# Audit\n\n" + "\n".join(lines))
    assert "(there is one of other rows or pixels: 0123)" in section(model_card(final), "Data")
    shutil.move(other.parent, mlruns / "journal" / f"audit-microcalc-{digest}")
    told = section(model_card(final), "Data")
    assert f"Audit `audit-microcalc-{digest}`: 3 warnings." in told
    assert "- duplicate: 2 pairs of identical images under different patients\n" in told
    assert "- shortcut: token 2 of the file name (column source), alone reaches AUC 0.91" in told
    assert "0041u1" not in told
    assert "0002s1" not in told


def test_stamps_stand_first_and_limits_say_them(final: Scored) -> None:
    plain = section(model_card(final), "Limits")
    assert "Not a medical device" in plain
    assert "SYNTHETIC" not in plain
    final.tags.update({"synthetic": "true", "leaky": "true", "unverified": "the folds", "quick_look": "60"})
    card = model_card(final)
    assert card.line.startswith("SYNTHETIC images · LEAKY folds · unverified · microcalc")
    for word in ("SYNTHETIC: its images", "LEAKY: patients stood", "Unverified: the folds could", "A quick look: "):
        assert word in section(card, "Limits")
    assert figures(final).items() >= {"synthetic": "true", "leaky": "true", "unverified": "the folds"}.items()


def test_what_was_not_read_is_not_told(mlruns: Path) -> None:
    trial = Runs(mlruns).get("first/t000")
    card = model_card(trial)
    assert "test split" not in section(card, "Figures")
    assert "no test split was read" in section(card, "Limits")
    assert "carried over from the cross-fitted scores" in section(card, "Operating point")
    assert "corrected for the choice" not in section(card, "Figures"), "that is of the trial that was chosen"
    assert not any(name.startswith("test_") for name in figures(trial))


def test_evaluations_elsewhere_are_told(tmp_path: Path) -> None:
    mlruns = copied(tmp_path / "mlruns")
    (final,) = Runs(mlruns).named(["first"])
    assert "Not judged on data of another place" in section(model_card(final), "Limits")
    run = Runs(mlruns).journal.run("external-0")
    tags = {"dataset": "other|place", "level": "patch", "model_run": final.run_id}
    run.begin(kind=Kind.external, name="other", study="", parent=None, experiment="other", tags=tags)
    run.write("predictions_external.parquet", final.predictions("test").frame.to_parquet(index=False))
    figures = {"auc": 0.81, "tpr": 0.7, "fpr": 0.1, "calibration_slope": 0.6}
    run.metrics({f"external_patch/{name}{end}": value for name, value in figures.items() for end in ("", "_lo", "_hi")})
    run.end("completed")
    (final,) = Runs(mlruns).named(["first"])
    card = model_card(final)
    (row,) = [line for line in section(card, "External data").splitlines() if "0.810" in line]
    assert row.startswith("| other/place | patch | 0.810 (0.810-0.810) | 0.700 (0.700-0.700) | 0.900 (0.900-0.900) |")
    assert row.endswith("| 255+/255- · 170 patients |")
    assert "Not judged on data of another place" not in section(card, "Limits")
    assert "See External data" in section(card, TITLE)


def test_rows_of_reserved_patients_are_not_called_out_of_fold(tmp_path: Path) -> None:
    mlruns = copied(tmp_path / "mlruns")
    (final,) = Runs(mlruns).named(["first"])
    final.run.tags({"judged_on": "reserve"})
    (final,) = Runs(mlruns).named(["first"])
    assert "| reserved patients | patch |" in section(model_card(final), "Figures")
    assert "out of fold" not in section(model_card(final), "Data")


def test_members_of_an_ensemble_are_listed_by_their_manifest(tmp_path: Path) -> None:
    mlruns = copied(tmp_path / "mlruns")
    first, second = Runs(mlruns).named(["first", "second"])
    run = Runs(mlruns).journal.run("ensemble-0")
    tags = {"rule": "weighted", "level": "patch", "operating_point": "youden", "dataset": "microcalc"}
    run.begin(kind=Kind.ensemble, name="e2", study="first", parent=None, experiment="microcalc", tags=tags)
    run.write("predictions.parquet", first.predictions().frame.to_parquet())
    members = [
        {"run": each.run_id, "digest": each.digest(), "name": each.name, "weight": weight}
        for each, weight in ((first, 0.25), (second, 0.75))
    ]
    run.write("manifest.json", json.dumps({"members": members, "candidates": 7}))
    run.end("completed")
    card = model_card(Runs(mlruns).get("ensemble-0"))
    told = section(card, "Members")
    assert "2 members out of 7 candidates, combined by the rule `weighted`" in told
    assert f"`{second.run_id}` | 0.75 | {second.digest()}" in told
    assert "torch " in section(card, "Software")
    assert "| 27 | 12g | How models were combined into one prediction | See Members |" in section(card, TITLE)


def test_the_address_makes_commands_to_be_copied(final: Scored) -> None:
    assert "python -m experiments.predict micro/3 FOLDER --out" in section(model_card(final, address="micro/3"), "Use")
    told = section(model_card(final), "Use")
    assert f"predict {final.run_id} FOLDER" in told
    assert "models:/" not in told
    assert "N x 1 x 32 x 32" in told


def test_a_page_holds_no_more_than_every_database_does(final: Scored) -> None:
    card = Card("line", (("a", "x" * 3000), ("b", "y" * 3000), ("c", "z")))
    text = card.description("more")
    assert "## a" in text
    assert "## b" not in text
    assert text.endswith("## c\n\nz")
    assert len(model_card(final).description("more")) <= LONGEST


def test_the_checklist_asks_every_item_once_and_invents_no_answer() -> None:
    numbers = []
    for claim, *_ in ITEMS:
        for part in filter(None, claim.replace(" ", "").split(",")):
            first, _, last = part.partition("-")
            numbers += range(int(first), int(last or first) + 1)
    assert sorted(numbers) == list(range(1, 45))
    tripod = {part.strip().rstrip("abcdefg") for _, parts, *_ in ITEMS for part in parts.split(",") if part.strip()}
    assert tripod == {str(number) for number in range(1, 28)}
    empty = checklist({})
    assert empty.count(UNKNOWN) == len(ITEMS)
    assert "0 of" in empty
    assert "| a / b |" in checklist({"kind": "a | b"})


def test_what_a_person_must_say_is_left_to_a_person(final: Scored) -> None:
    rows = section(model_card(final), TITLE).splitlines()
    for asked in ("ethics committee", "Funding", "de-identified", "clinical background", "external data"):
        assert next(row for row in rows if asked in row).endswith(f"| _{UNKNOWN}_ |"), asked
    assert next(row for row in rows if row.startswith("| 25 ")).endswith("| Solved at once |")
