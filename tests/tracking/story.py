"""A small study as a journal tells it."""

import struct
import zlib

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


def small_study(journal: Journal, trials: int = 2) -> str:
    """A study with a reference, trials and a final run; returns the id of the study's run."""
    study = begin(journal.run("demo-1"), "study", "demo")
    scored(begin(journal.run("demo-1.reference"), "reference", "reference linear", parent="demo-1"), 1.0)
    journal.run("demo-1.reference").end("completed")
    for slot in range(trials):
        run = begin(journal.run(f"demo-1.t{slot:03d}"), "trial", f"t{slot:03d} hyper", parent="demo-1", trial=str(slot))
        run.params({"learning_rate": 0.001 * (slot + 1), "log10_learning_rate": -3 + 0.1 * slot, "depth": slot})
        run.dataset("synthetic", "d1", "synthetic", split="folds1", profile={"images": 100})
        scored(run, 1.0 + 0.2 * ((slot * 5) % 7))
        run.end("completed")
    scored(begin(journal.run("demo-1.final"), "final", "final-t001", parent="demo-1"), 1.9)
    journal.run("demo-1.final").end("completed")
    study.note("final: AUC 0.9")
    study.end("completed")
    return "demo-1"
