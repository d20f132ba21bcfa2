import base64
import json
import logging
import zlib

import pytest
from tracking.story import small_study

from mammo_lightning.errors import TrackingError
from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.publish import Publisher, default_uri
from mammo_lightning.tracking.views import TAG, leaderboards, save_views, view_key


@pytest.fixture
def published(mlruns):
    journal = Journal(mlruns)
    small_study(journal)
    publisher = Publisher(journal, default_uri(mlruns), mlruns)
    publisher.publish_all()
    return publisher


def state(text):
    return json.loads(zlib.decompress(base64.b64decode(json.loads(text)["state"].removeprefix("deflate;"))))


def test_a_study_has_three_views_and_the_link_names_the_leaderboard(published):
    tags = published.store.client.get_experiment("1").tags
    key = view_key("demo", "leaderboard")
    assert sum(tag.startswith(TAG) for tag in tags) == 3
    assert published.link("demo-1", port=7) == (
        "http://127.0.0.1:7/#/experiments/1/runs?workflowType=machine_learning"
        f"&viewStateShareKey={key}&compareRunsMode=CHART"
    )
    assert [(study, found) for _, study, found in leaderboards(tags)] == [("demo", key)]
    assert key in tags["mlflow.note.content"]


def test_the_leaderboard_finds_the_scored_runs_and_draws_what_was_tuned(published):
    client = published.store.client
    shown = state(client.get_experiment("1").tags[TAG + view_key("demo", "leaderboard")])
    found = client.search_runs(["1"], shown["searchFilter"], order_by=[f"{shown['orderByKey']} DESC"])
    values = [run.data.metrics["val_auc"] for run in found]
    assert {run.data.tags["kind"] for run in found} == {"trial", "reference", "final"}
    assert values == sorted(values, reverse=True)
    charts = {chart["type"]: chart for chart in shown["compareRunCharts"]}
    assert charts["PARALLEL"]["selectedParams"] == ["depth", "log10_learning_rate"]
    assert charts["LINE"]["selectedXAxisMetricKey"] == "roc/fpr"
    sections = {section["uuid"] for section in shown["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} <= sections


def test_newest_leaderboard_stands_last_and_foreign_views_are_left_alone(published):
    client = published.store.client
    save_views(client, "1", "older", created=1)
    client.set_experiment_tag("1", TAG + "mine", "no json")
    assert [study for _, study, _ in leaderboards(client.get_experiment("1").tags)] == ["older", "demo"]


def test_views_that_cannot_be_written_now_are_written_later(published, monkeypatch):
    client = published.store.client
    for view in ("leaderboard", "learning curves"):
        client.delete_experiment_tag("1", TAG + view_key("demo", view))
    published.journal.run("demo-1").end("completed")
    with monkeypatch.context() as broken:
        broken.setattr(client._client, "set_experiment_tag", fail)
        with pytest.raises(TrackingError, match="cannot publish to .*: ConnectionError: away"):
            published.publish_all()
    assert published.publish_all() == 0
    assert TAG + view_key("demo", "leaderboard") in client.get_experiment("1").tags


def test_views_that_mlflow_refuses_are_only_a_warning(published, caplog):
    published.courier.to_view.add(("999", "demo", 1))
    with caplog.at_level(logging.WARNING, "mammo_lightning.tracking"):
        published.publish_all()
    assert "views of study 'demo' could not be written: MlflowException" in caplog.text
    assert published.courier.to_view == set()


def fail(*args, **more):
    raise ConnectionError("away")
