"""What two reporting guidelines ask about a model, and what a run can answer by itself."""

from __future__ import annotations

from collections.abc import Mapping

from mammo_lightning.ensembles.members import BY_HAND
from mammo_lightning.registration.facts import Facts
from mammo_lightning.types import Kind

UNKNOWN = "not known to this run: fill in"
TITLE = "Reporting checklists"

#: item of CLAIM (2024 update), item of TRIPOD+AI, what is asked (in our words), name of the answer
ITEMS = (
    ("1", "1", "Says that it is about a prediction model made by AI, and of which kind", "kind"),
    ("2", "2", "A structured summary", "summary"),
    ("3", "3a, 3b", "The clinical background, the purpose, and who is meant to use it on whom", ""),
    ("", "3c, 14", "Known inequalities between groups of people, and what was done for fairness", "fairness"),
    ("4", "4", "Aims and hypotheses", ""),
    ("5, 6", "", "Prospective or retrospective; the goal of the study", "goal"),
    ("7", "5a", "Where the data come from", "source"),
    ("", "5b, 6a", "When, where and in which setting they were acquired", ""),
    ("8", "6b", "Who was taken in, who was left out", "eligible"),
    ("", "6c", "Treatments received", ""),
    ("9", "7, 9b", "How images were prepared", "preparation"),
    ("10", "", "How subsets were selected", "levels"),
    ("11", "", "How the images were de-identified", ""),
    ("12", "11", "What was done about missing data", "missing"),
    ("13", "9a", "How the images were acquired (machines, protocol)", ""),
    ("14, 15", "8a", "What the label means, and why that reference standard", "label"),
    ("16-18", "8b, 8c, 9c", "Who read and annotated, knowing what, and how far readers agreed", ""),
    ("19", "12a", "How the data were divided", "division"),
    ("20", "", "On which level the parts are disjoint", "disjoint"),
    ("21", "10", "The size of the sample, and why", "size"),
    ("22", "12c, 22", "The model in full", "model"),
    ("23", "", "Software, with versions", "software"),
    ("24", "", "How the parameters were initialised", "start"),
    ("25", "12c", "How it was trained", "training"),
    ("", "13", "What was done about classes of unequal size", "imbalance"),
    ("26", "12c", "How the final model was chosen", "choice"),
    ("27", "12g", "How models were combined into one prediction", "combination"),
    ("", "12f, 24", "Whether a former model was updated", "update"),
    ("", "15", "What the model gives out, and how a class is made of it", "output"),
    ("28", "12e", "The measures of performance", "measures"),
    ("29, 37, 38", "23a", "The figures, with their uncertainty", "figures"),
    ("30", "12d, 23b", "How far the figures hold from group to group", "subgroups"),
    ("31", "", "How its decisions are explained", ""),
    ("32", "", "Figures on internal data", "internal"),
    ("33", "16", "Figures on external data, and how those differ", "external"),
    ("34", "18d", "Registration of the study", ""),
    ("", "17", "Approval by an ethics committee", ""),
    ("35", "20a, 21", "How many were included, excluded, and are behind each figure", "counted"),
    ("36", "20b, 20c", "Who they are, in each part of the data", "people"),
    ("39", "", "What kind of images it gets wrong", "failures"),
    ("40", "26", "Limits", "limits"),
    ("41", "25, 27c", "What follows for practice", ""),
    ("", "27a", "What happens with poor or missing input", "input"),
    ("", "27b", "What its users must do and know", ""),
    ("42", "18c", "Where the protocol is", "protocol"),
    ("43", "18e, 18f", "Whether software, model and data can be had", "available"),
    ("44", "18a, 18b", "Funding and conflicts of interest", ""),
    ("", "19", "How patients and the public took part", ""),
)


def checklist(answers: Mapping[str, str]) -> str:
    """The items as a table; what has no answer is left to a person.

    Args:
        answers: By the names that stand in `ITEMS`; an empty one counts as none.
    """
    known = [answers.get(name, "") for *_, name in ITEMS]
    head = (
        f"Items of CLAIM (2024 update) and TRIPOD+AI in our own words, {sum(map(bool, known))} of {len(ITEMS)} "
        "answered by the run. Look up the published forms before you submit one."
    )
    rows = [
        f"| {claim} | {tripod} | {asked} | {answer.replace('|', '/') or f'_{UNKNOWN}_'} |"
        for (claim, tripod, asked, _), answer in zip(ITEMS, known, strict=True)
    ]
    return "\n".join([head, "", "| CLAIM | TRIPOD+AI | asked | answer |", "|---|---|---|---|", *rows])


def answers(facts: Facts) -> dict[str, str]:
    """What the run knows, by the names that stand in `ITEMS`."""
    scored, recipe, params = facts.scored, facts.scored.recipe, facts.settings
    ensemble = scored.kind is Kind.ensemble
    trained = "see the members" if ensemble else ""
    origin = facts.dataset.origin if facts.dataset else None
    task = f"{facts.classes[-1]} against {' / '.join(facts.classes[:-1])}" if facts.classes else ""
    kept: dict[str, object] = {key: params[key] for key in ("preprocessing", "augmentation", "size") if key in params}
    steps = ("epochs", "batch_size", "learning_rate", "optimizer", "schedule", "stopping")
    patients = {split: scored.predictions(split).frame["patient"].nunique() for split in facts.splits}
    group = recipe.group if recipe else "patient"
    folds = "patients divided into folds" if recipe is None else f"{recipe.folds} folds by {group} ({recipe.scheme})"
    walled = f"; test split {facts.tags['test_split']} kept apart" if facts.tags.get("test_split") else ""
    return {
        "kind": f"Classification by {facts.tags.get('classifier', 'a network')}: {task}" if task else "",
        "summary": facts.line.replace(" · ", "; "),
        "goal": "Making and judging a model; prospective or retrospective: fill in",
        "source": (origin.citation if origin else "") and "See Data",
        "eligible": "See Data for what is in no figure; the criteria of the source itself: fill in",
        "preparation": _listed(kept) or trained,
        "levels": f"Judged by {', '.join(scored.levels)}" if facts.splits else "",
        "missing": "Files that cannot be read stop a study, or are named and counted (--skip-unreadable)",
        "label": (facts.dataset.__doc__ or "").splitlines()[0].replace("`", "") if facts.dataset else "",
        "division": f"{folds}{walled}; see Data",
        "disjoint": "Not disjoint: LEAKY on purpose"
        if scored.leaky
        else f"{group.capitalize()}; identical images count as one patient",
        "size": _listed({facts.rows(split): f"{count} patients" for split, count in patients.items()}),
        "model": "See What it is; weights and configuration travel with the model",
        "software": "See Software" if facts.versions else "",
        "start": trained or "By the classifier, from seeds kept with each trial",
        "training": "Solved at once"
        if facts.solved
        else _listed({key: params[key] for key in steps if key in params}) or trained,
        "imbalance": params.get("imbalance", ""),
        "choice": _choice(facts),
        "combination": "See Members" if ensemble else "The mean over folds of calibrated probabilities",
        "update": "No",
        "output": "A probability; see Operating point",
        "measures": "See Figures and Calibration",
        "figures": "See Figures",
        "subgroups": "See Subgroups" if facts.subgroups else "",
        "fairness": "",
        "internal": "See Figures" if "val" in facts.splits or "test" in facts.splits else "",
        "external": "See External data" if facts.elsewhere else "",
        "counted": "See Data and the counts beside each figure",
        "people": "",
        "failures": "See the figures of the run, and `python -m experiments.compare`" if facts.splits else "",
        "limits": "See Limits",
        "input": "An image of another size or type is refused; nothing else is checked",
        "protocol": f"recipe.json of study {scored.study.run_id}" if recipe and scored.study else "",
        "available": f"Licence of the data: {origin.licence}" if origin and origin.licence else "",
    }


def _choice(facts: Facts) -> str:
    recipe, kind = facts.scored.recipe, facts.scored.kind
    if kind is Kind.ensemble:
        return _members(facts.run.read_params())
    if recipe is None:
        return ""
    if kind is Kind.reference:
        return f"The best of {recipe.trials} trials of its own, out of fold"
    searched = f"{recipe.trials} trials by {recipe.objective}"
    if recipe.scheme == "nested":
        return (
            f"In each outer fold the best of {searched} on inner folds; its figures are of outer folds, which had no "
            "part in that choice"
        )
    where = "on the fold held out" if recipe.scheme == "holdout" else "out of fold"
    if kind is Kind.trial:
        return f"One of {searched}, {where}"
    return f"The best of {searched}, {where}"


def _members(params: Mapping[str, str]) -> str:
    """How the members of an ensemble were chosen."""
    if params.get("by") == BY_HAND:
        return "Members were named by hand; no figure is corrected for that choice"
    if params.get("rule") == "greedy":
        return "Members by the rule greedy, judged on other folds than chosen by"
    return f"Members by {params.get('by', 'their rule')}, judged on other folds than chosen by"


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
