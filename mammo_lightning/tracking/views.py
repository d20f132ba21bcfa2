"""The saved views a study is opened with. Their form is MLflow's own and undocumented: no other module writes it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mammo_lightning.tracking.charts import Chart, bar, collapsed, images, line, parallel, scatter, section
from mammo_lightning.types import Kind, digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

LEADERBOARD, CURVES, ENSEMBLES = "leaderboard", "learning curves", "ensembles"
TAG = "mlflow.sharedViewState."
FOLDS = 10
#: sections the UI makes of every metric there is: kept, but closed and below ours
GENERATED = (
    *("Model metrics", "fold", "epoch/train_loss", "epoch/inner_loss", "epoch/inner_auc", "epoch/learning_rate"),
    *("roc", "pr", "roc_test", "pr_test", "val_patch", "val_view", "val_patient", "test_patch", "test_view"),
    "test_patient",
)
MOST_PARAMS = 7


def view_key(study: str, view: str) -> str:
    """The key under which a study's view is kept: the same whenever it is written."""
    return digest(study, view)


def leaderboard_link(base: str, experiment_id: str, key: str) -> str:
    """The address that opens a view as charts, not the mode a fresh browser starts in."""
    query = f"workflowType=machine_learning&viewStateShareKey={key}&compareRunsMode=CHART"
    return f"{base.rstrip('/')}/#/experiments/{experiment_id}/runs?{query}"


def save_views(client: MlflowClient, experiment_id: str, study: str, *, created: int = 0) -> str:
    """Save the views of a study with its experiment; returns the leaderboard's key."""
    known = client.get_experiment(experiment_id).tags
    for view, state in _states(study, _tuned(client, experiment_id, study)).items():
        packed = "deflate;" + base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode()
        content = {"name": f"{study} · {view}", "createdAt": created, "updatedAt": created, "state": packed}
        tag, text = TAG + view_key(study, view), json.dumps(content, ensure_ascii=False)
        if known.get(tag) != text:
            client.set_experiment_tag(experiment_id, tag, text)
    _note(client, experiment_id)
    return view_key(study, LEADERBOARD)


def leaderboards(tags: Mapping[str, str]) -> list[tuple[int, str, str]]:
    """Time, study and key of each leaderboard among the tags of an experiment, the newest last."""
    found = []
    for tag, text in tags.items():
        if tag.startswith(TAG):
            try:
                content = json.loads(text)
                study, _, view = content["name"].rpartition(" · ")
                if view == LEADERBOARD:
                    found.append((int(content["createdAt"]), study, tag.removeprefix(TAG)))
            except (ValueError, KeyError, TypeError):  # a view somebody else saved
                continue
    return sorted(found)


def _note(client: MlflowClient, experiment_id: str) -> None:
    newest = reversed(leaderboards(client.get_experiment(experiment_id).tags)[-10:])
    links = [f"[{study}]({leaderboard_link('', experiment_id, key).lstrip('/')})" for _, study, key in newest]
    client.set_experiment_tag(experiment_id, "mlflow.note.content", "Leaderboards: " + " · ".join(links))


def _tuned(client: MlflowClient, experiment_id: str, study: str) -> list[str]:
    """Parameters that differ between the trials of a study and that all of them have."""
    query = f"{_of_study(study)} and tags.kind = 'trial'"
    trials = [run.data.params for run in client.search_runs([experiment_id], query, max_results=100)]
    shared = set.intersection(*(set(params) for params in trials)) if trials else set()
    return sorted(key for key in shared if len({params[key] for params in trials}) > 1)


def _of_study(study: str) -> str:
    quote = '"' if "'" in study else "'"
    return f"tags.study = {quote}{study}{quote}"


def _states(study: str, tuned: Sequence[str]) -> dict[str, dict[str, Any]]:
    of_study = _of_study(study)
    others = [Kind.study, Kind.comparison, Kind.generator, Kind.audit]
    scored = " and ".join([of_study, *(f"tags.kind != '{kind}'" for kind in [*others, Kind.ensemble])])
    ensembles = " and ".join([of_study, *(f"tags.kind != '{kind}'" for kind in others)])
    roc, spots = line("roc/tpr", over="roc/fpr", runs=10), scatter(x="val_fpr", y="val_tpr")
    # the axes are linear, so of a rate and its logarithm the logarithm is drawn
    axes = [key for key in tuned if f"log10_{key}" not in tuned][:MOST_PARAMS]
    settings = parallel(params=axes or ["log10_learning_rate"], metrics=["val_auc"])
    bars = [bar(key) for key in ("val_auc", "val_tpr", "val_fpr", "val_ap")]
    headline = section("Headline", bars, columns=len(bars))
    losses = [line(f"epoch/train_loss/f{fold}") for fold in range(FOLDS)]
    inner = [line(f"epoch/inner_loss/f{fold}") for fold in range(FOLDS)]
    curves = [
        section("AUC of each fold", [line("fold/val_auc")]),
        section("Training loss by epoch", losses),
        section("Inner loss by epoch", inner),
    ]
    members = section("Ensembles and members", [roc, line("pr/precision", over="pr/recall", runs=10), spots])
    first = section("ROC, operating points and settings", [roc, spots, settings])
    wall = section("ROC figures", [images("roc", runs=10)], columns=1, height=640)
    columns = _columns(tuned)
    return {
        LEADERBOARD: _state(scored, [first, headline, wall], columns=columns),
        CURVES: _state(f"{of_study} and tags.kind = 'trial'", curves, columns=columns),
        ENSEMBLES: _state(ensembles, [members, headline], columns=columns),
    }


def _columns(tuned: Sequence[str]) -> list[str]:
    metrics = ("val_auc", "val_auc_lo", "val_auc_hi", "val_tpr", "val_fpr", "val_ap", "val_mcc", "threshold")
    params = [key for key in tuned if not key.startswith("log10_")] or ["learning_rate", "preprocessing"]
    return [
        *(f"metrics.`{name}`" for name in metrics),
        *(f"params.`{name}`" for name in params[:MOST_PARAMS]),
        *(f"tags.`{name}`" for name in ("kind", "outcome", "classifier")),
        "attributes.Models",
    ]


def _state(
    search: str, sections: Sequence[tuple[dict[str, Any], list[Chart]]], *, columns: Sequence[str]
) -> dict[str, Any]:
    return {
        "searchFilter": search,
        "orderByKey": "metrics.`val_auc`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {},
        "runsHiddenMode": "FIRST_20_RUNS",
        "groupBy": None,
        "isAccordionReordered": True,  # else sections stand in order of the alphabet
        "hideEmptyCharts": True,
        "compareRunSections": [*(heading for heading, _ in sections), *(collapsed(name) for name in GENERATED)],
        "compareRunCharts": [chart for _, charts in sections for chart in charts],
    }
