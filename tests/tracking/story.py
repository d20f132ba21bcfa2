"""A small study as a journal tells it."""

import struct
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mammo_lightning.tracking.journal import Journal


def png(level: int, size: int = 8) -> bytes:
    """A grey PNG, written by hand."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\x00" + bytes([level]) * size for _ in range(size))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def begin(run, kind="trial", name="t000 hyper", study="demo", parent=None, **tags):
    run.begin(kind=kind, name=name, study=study, parent=parent, experiment="synthetic", tags=tags)
    return run


def scored(run, skill: float):
    """What a scored run says: headline metrics and curves of two normal classes."""
    rng = np.random.default_rng(int(100 * skill))
    negative, positive = rng.normal(size=400), rng.normal(skill, size=400)
    cuts = np.quantile(np.r_[negative, positive], np.linspace(1, 0, 60))
    true_rate = [float((positive >= cut).mean()) for cut in cuts]
    false_rate = [float((negative >= cut).mean()) for cut in cuts]
    auc = float(np.mean(positive[:, None] > negative[None]))
    at = 12
    run.metrics({"val_auc": auc, "val_auc_lo": auc - 0.03, "val_auc_hi": auc + 0.03, "threshold": float(cuts[at])})
    run.metrics({"val_tpr": true_rate[at], "val_fpr": false_rate[at], "val_ap": auc - 0.01, "val_mcc": 0.5})
    run.series("roc/fpr", false_rate)
    run.series("roc/tpr", true_rate)
    run.series("pr/recall", true_rate)
    run.series("pr/precision", [1 - 0.4 * rate for rate in true_rate])
    run.image("roc", png(int(255 * auc)))
    for fold in range(3):
        run.metrics({"fold/val_auc": auc - 0.01 * fold}, step=fold)
        run.series(f"epoch/train_loss/f{fold}", [1 / (1 + epoch) for epoch in range(5)])
    return auc


def small_study(journal: Journal, trials: int = 2, name: str = "demo-1") -> str:
    """A study with a reference, trials and a final run; returns the id of the study's run."""
    top = journal.run(name)
    study = begin(top, "study", "demo")
    scored(begin(journal.run(f"{name}.reference"), "reference", "reference linear", parent=name), 1.0)
    journal.run(f"{name}.reference").end("completed")
    for slot in range(trials):
        run = begin(journal.run(f"{name}.t{slot:03d}"), "trial", f"t{slot:03d} hyper", parent=name, trial=str(slot))
        run.params({"learning_rate": 0.001 * (slot + 1), "log10_learning_rate": -3 + 0.1 * slot, "depth": slot})
        run.dataset("synthetic", "d1", "synthetic", split="folds1", profile={"images": 100})
        scored(run, 1.0 + 0.2 * ((slot * 5) % 7))
        run.end("completed")
    scored(begin(journal.run(f"{name}.final"), "final", "final-t001", parent=name), 1.9)
    journal.run(f"{name}.final").end("completed")
    study.note("final: AUC 0.9")
    study.end("completed")
    return name


def model_folder(folder: Path, text: str = "w") -> Path:
    """What MLflow takes for a model."""
    from mlflow.models import Model

    folder.mkdir(exist_ok=True, parents=True)
    (folder / "weights").write_text(text)
    Model(flavors={"python_function": {"loader_module": "mlflow.pyfunc.model"}}).save(str(folder / "MLmodel"))
    return folder


def everything(client, experiment: str) -> dict[str, object]:
    """All a reader can see of the runs of an experiment, by journal id: what must neither be lost nor doubled."""
    from mlflow.artifacts import download_artifacts

    found = client.get_experiment_by_name(experiment).experiment_id
    seen: dict[str, object] = {}
    journal_ids = {run.info.run_id: run.data.tags["journal"] for run in client.search_runs([found])}
    models = {model.model_id: model for model in client.search_logged_models([found])}
    for run in client.search_runs([found]):
        run_id, name = run.info.run_id, run.data.tags["journal"]
        assert name not in seen, f"{name} is there twice"
        points = {
            key: sorted((each.step, each.value, each.timestamp) for each in client.get_metric_history(run_id, key))
            for key in run.data.metrics
        }
        for key, history in points.items():
            assert len({step for step, _, _ in history}) == len(history), f"{name} {key} has a point twice"
        with TemporaryDirectory() as scratch:
            folder = Path(download_artifacts(run_id=run_id, dst_path=scratch, tracking_uri=client.tracking_uri))
            files = contents(folder)
            own = [models.pop(output.model_id) for output in run.outputs.model_outputs]
            served = [_model(client, model, Path(scratch)) for model in own]
        tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
        parent = journal_ids.get(run.data.tags.get("mlflow.parentRunId", ""))
        datasets = [(each.dataset.name, each.dataset.digest) for each in run.inputs.dataset_inputs]
        times = (run.info.status, run.info.start_time, run.info.end_time)
        seen[name] = (times, tags, parent, run.data.params, points, files, datasets, served)
    assert not models, "a model belongs to no run"
    return seen


def contents(folder: Path) -> dict[str, bytes]:
    """Names and bytes of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _model(client, model, scratch: Path) -> tuple[object, ...]:
    from mlflow.artifacts import download_artifacts

    place = scratch / model.model_id
    place.mkdir()
    download_artifacts(artifact_uri=model.artifact_location, dst_path=str(place), tracking_uri=client.tracking_uri)
    files = {name: data for name, data in contents(place).items() if not name.endswith("MLmodel")}
    metrics = sorted((each.key, each.value, each.timestamp) for each in model.metrics or [])
    return model.name, str(model.status), model.tags["journal"], metrics, files
