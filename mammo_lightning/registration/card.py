"""The card of a model: what it is, on whom it was judged and what it is not good for, from what its run knows."""

from __future__ import annotations

from dataclasses import dataclass

from mammo_lightning.registration.checklist import TITLE, answers, checklist
from mammo_lightning.registration.cohort import cohort, subgroups, table
from mammo_lightning.registration.facts import Facts
from mammo_lightning.runs import Scored
from mammo_lightning.tracking.versions import LONGEST
from mammo_lightning.types import Kind, Level

ARTIFACT = "model_card-{name}-{version}.md"
#: a folder's own store, as it is called from where the folder is
LOCAL = "sqlite:///mlruns/mlflow.db"
#: women with cancer among those screened, about
SCREENING = 0.006
ROLES = {
    Kind.final: "the mean of the models of {folds} folds, each calibrated on the fold it did not see",
    Kind.trial: "one trial of a search, the mean of its models of {folds} folds: judged by what it was chosen by",
    Kind.reference: "the reference that a study is compared with, the mean of its models of {folds} folds",
    Kind.ensemble: "an ensemble of other runs; see Members",
}


@dataclass(frozen=True)
class Card:
    """A line that says what there is, and sections of markdown."""

    line: str
    sections: tuple[tuple[str, str], ...]

    def markdown(self, title: str) -> str:
        """The whole card."""
        return "\n\n".join([f"# {title}", self.line, *(f"## {name}\n\n{body}" for name, body in self.sections)]) + "\n"

    def description(self, more: str) -> str:
        """What fits on the page of a version: a plain first line, then sections in order as long as there is room."""
        text = f"{self.line}\n\n{more}"
        for name, body in self.sections:
            part = f"\n\n## {name}\n\n{body}"
            if name != TITLE and len(text) + len(part) <= LONGEST:
                text += part
        return text


def model_card(scored: Scored, *, address: str = "", store: str = LOCAL) -> Card:
    """The card of a run.

    Args:
        scored: The run.
        address: Its name in the registry, as `NAME/3`; empty for one that is not registered.
        store: Where it is registered.
    """
    facts = Facts(scored)
    sections = [
        ("What it is", _what(facts)),
        ("Figures", _figures(facts)),
        ("Operating point", _point(facts)),
        ("External data", _elsewhere(facts)),
        ("Limits", "\n".join(f"- {each}" for each in limits(facts))),
        ("Use", _use(facts, address, store)),
        ("Data", cohort(facts)),
        ("Subgroups", subgroups(facts)),
        ("Calibration", _calibration(facts)),
        ("Members", _members(facts)),
        ("Software", ", ".join(f"{name} {version}" for name, version in facts.versions.items())),
        (TITLE, checklist(answers(facts))),
    ]
    return Card(facts.line, tuple((name, body) for name, body in sections if body))


def _what(facts: Facts) -> str:
    recipe, scored = facts.scored.recipe, facts.scored
    role = ROLES[scored.kind].format(folds=recipe.folds if recipe else "its")
    what = f"Run `{scored.run_id}`: {role}."
    if facts.classes:
        against = " / ".join(f"`{name}`" for name in facts.classes[:-1])
        what += f" It gives each image the probability of `{facts.classes[-1]}`, against {against}"
        what += "." if scored.level is Level.patch else f"; it is judged by {scored.level}, the images of one together."
    if not facts.settings:
        return what
    network = facts.tags.get("classifier", "network")
    told = ", ".join(f"{key} {value}" for key, value in facts.settings.items())
    return f"{what}\n\n`{network}` with {told}."


def _figures(facts: Facts) -> str:
    rows = []
    for split in facts.splits:
        for level in facts.scored.levels:
            if auc := facts.estimate(split, level, "auc"):
                others = [facts.estimate(split, level, "tpr"), facts.specificity(split, level)]
                others.append(facts.estimate(split, level, "ap"))
                told = [each or "" for each in others]
                rows.append((facts.rows(split), level, auc, *told, facts.counts(split, level)))
    head = ("rows", "level", "AUC", "sensitivity", "specificity", "AP", "counts")
    notes = [facts.reads] if facts.reads else []
    if corrected := facts.corrected:
        notes.append(f"The AUC corrected for the choice among the trials of the study is {corrected}, out of bag.")
    notes.append("In brackets: 95 % intervals, of a bootstrap over patients. AP: average precision. 3+/7-: 3 positive,")
    notes.append("7 negative.")
    return "\n\n".join(filter(None, [table(head, rows), " ".join(notes)]))


def _point(facts: Facts) -> str:
    points = facts.points
    if not points:
        return "None is frozen: sensitivity and specificity above are cross-fitted, each fold by the others."
    origin = {
        "reserve": "chosen on patients that no fold saw",
        "carried": "carried over from the cross-fitted scores of the folds",
    }.get(facts.origin, "kept by its run")
    split = "test" if "test" in facts.splits else ""
    rows = [
        (
            *(level, f"{point.threshold:.4g}", point.rule),
            *(
                (facts.estimate(split, level, "tpr") or "", facts.specificity(split, level) or "")
                if split
                else ("", "")
            ),
        )
        for level, point in points.items()
    ]
    on = f" Figures are of the {facts.rows(split)}." if split else ""
    head = ("level", "threshold", "rule", "sensitivity", "specificity")
    return f"A score at or above the threshold is called positive; it was {origin}.{on}\n\n{table(head, rows)}"


def _elsewhere(facts: Facts) -> str:
    """How it did on other datasets, at its frozen threshold."""
    rows = []
    for each in facts.elsewhere:
        found = Facts(each)
        names = ("auc", "tpr", "calibration_slope")
        auc, tpr, slope = (found.estimate("external", found.level, name) or "" for name in names)
        rates = (tpr, found.specificity("external", found.level) or "", slope)
        rows.append((each.tags["dataset"], found.level, auc, *rates, found.counts("external", found.level)))
    return table(("dataset", "level", "AUC", "sensitivity", "specificity", "calibration slope", "counts"), rows)


def limits(facts: Facts) -> list[str]:
    """What the model is not good for, in plain words."""
    scored, found = facts.scored, ["For research only. Not a medical device; not for decisions about patients."]
    if scored.synthetic:
        found.append("SYNTHETIC: its images were generated. It has never seen a mammogram.")
    if scored.leaky:
        found.append("LEAKY: patients stood on both sides of the folds on purpose. Its figures are too good.")
    if limit := facts.tags.get("quick_look"):
        found.append(f"A quick look: made and judged on {limit} images of a larger dataset.")
    if facts.unverified:
        found.append(f"Unverified: {facts.unverified} could not be checked here.")
    if not facts.splits:
        return [*found, "No predictions are kept, so nothing is known of how good it is."]
    if "test" not in facts.splits:
        found.append("Judged on development data alone: no test split was read.")
    if not facts.elsewhere:
        found.append("Not judged on data of another place: expect it to do worse there.")
    if facts.read_count > 1:
        found.append(
            f"The test split was read {facts.read_count} times: choosing by such reads makes figures optimistic."
        )
    if scored.kind in (Kind.final, Kind.trial) and not (scored.recipe and scored.recipe.scheme == "nested"):
        found.append("The out-of-fold figure is that of a model chosen among others by it, hence optimistic.")
    labels = scored.predictions(facts.main).at(scored.level).labels
    share = float(labels.mean())
    found.append(
        f"{share:.0%} of the rows it was judged on are positive; among women screened, about {SCREENING * 1000:.0f} in "
        "1,000 have cancer. The share of its alarms that are right does not carry over"
        + (", and a patch is not a woman." if scored.level is Level.patch else ".")
    )
    if (patients := scored.predictions(facts.main).frame["patient"].nunique()) < 100:
        found.append(f"Judged on {patients} patients: the intervals are wide, and rare kinds of image are missing.")
    return found


def _use(facts: Facts, address: str, store: str) -> str:
    scores = f"python -m experiments.predict {address or facts.scored.run_id} FOLDER --out scores.csv"
    lines = ["```", scores]
    if address:
        lines.append(f"export MLFLOW_TRACKING_URI={store}")
        lines.append(f"mlflow models serve -m models:/{address} --env-manager local -h 127.0.0.1 -p 8080")
        lines.append("curl 127.0.0.1:8080/invocations -H 'Content-Type: application/json' -d @images.json")
    lines.append("```")
    manifest = facts.manifest
    if not manifest:
        return "\n".join(lines)
    shape = " x ".join(str(side) for side in ("N", *manifest["shape"]))
    takes = f"It takes {manifest['dtype']} pixels in native depth, {shape} (images, channels, height, width)"
    spacing = f", at {manifest['spacing_mm']} mm a pixel" if manifest.get("spacing_mm") else ""
    gives = f"gives {', '.join(f'`p_{name}`' for name in manifest['classes'])} and `positive`"
    body = '`images.json` is `{"inputs": [...]}` with the pixels of each image, as lists. '
    return "\n".join(
        [*lines, "", f"{body}{takes}{spacing}; it {gives}. Preprocessing, weights and threshold travel with it."]
    )


def _calibration(facts: Facts) -> str:
    names = ("calibration_slope", "calibration_intercept", "brier", "ece")
    rows = [
        (
            facts.rows(split),
            *(facts.estimate(split, facts.level, name) or "–" for name in names),
            facts.counts(split, facts.level),
        )
        for split in facts.splits
        if facts.estimate(split, facts.level, "brier")
    ]
    head = ("rows", "slope", "intercept", "Brier score", "ECE", "counts")
    right = "Right are a slope of 1 and an intercept of 0; a slope below 1 says that scores are too extreme."
    return f"{right}\n\n{table(head, rows)}" if rows else ""


def _members(facts: Facts) -> str:
    members = facts.members.get("members", [])
    if not members:
        return ""
    weighed = [each.get("weight") for each in members]
    rows = [
        (
            each.get("name", ""),
            f"`{each.get('run', '')}`",
            "" if weight is None else f"{weight:.3g}",
            each["digest"],
        )
        for each, weight in zip(members, weighed, strict=True)
    ]
    rule, tried = facts.tags.get("rule", "unknown"), facts.members.get("candidates")
    among = f" out of {tried} candidates" if tried else ""
    listed = table(("member", "run", "weight", "digest of its predictions"), rows)
    return f"{len(members)} members{among}, combined by the rule `{rule}`.\n\n{listed}"
