"""Notes that name runs: in MLflow they are links to the runs as they stand there."""

from pathlib import Path

from mammo_lightning.tracking.journal import Journal
from mammo_lightning.tracking.links import link
from mammo_lightning.tracking.publish import Publisher, default_uri
from mammo_lightning.types import Kind, Outcome


def test_a_note_links_to_published_runs_and_names_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for name in ("member-1", "whole"):
        run = journal.run(name)
        run.begin(kind=Kind.trial, name=name, study="s", parent=None, experiment="e", tags={})
        run.note(f"of {link('t001', 'member-1')} and {link('t002', 'elsewhere')} [kept](https://example.org)")
        run.end(Outcome.completed)
    publisher = Publisher(journal, default_uri(tmp_path), tmp_path)
    publisher.publish_all()
    client = publisher.store.client
    experiment_id, _ = publisher.store.experiment("e")
    runs = {run.info.run_name: run for run in client.search_runs([experiment_id])}
    expected = f"of [t001](#/experiments/{experiment_id}/runs/{runs['member-1'].info.run_id}) and t002 "
    for each in runs.values():
        assert each.data.tags["mlflow.note.content"] == expected + "[kept](https://example.org)"
    assert journal.run("whole").read_tags()["mlflow.note.content"].startswith("of [t001](run:member-1)")
