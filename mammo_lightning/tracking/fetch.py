"""What another machine published of a run, brought here."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mammo_lightning.tracking.store import Store


@dataclass
class Fetch:
    """Brings artifacts of finished runs of one MLflow experiment."""

    store: Store
    experiment: str

    def state(self, run_id: str) -> str | None:
        """How MLflow has a run: RUNNING, FINISHED ..., empty where it knows of none, None where it does not answer."""
        try:
            experiment_id, _ = self.store.experiment(self.experiment)
            found = self.store.client.search_runs([experiment_id], f"tags.journal = '{run_id}'", max_results=1)
        except Exception:  # of whatever kind: it did not answer
            return None
        return str(found[0].info.status) if found else ""

    def __call__(self, run_id: str, name: str, target: Path) -> bool:
        """Put artifact `name` of the run known as `run_id` at `target`; False if it is not, or not yet, to be had."""
        try:
            client = self.store.client
            experiment_id, _ = self.store.experiment(self.experiment)
            for run in client.search_runs([experiment_id], f"tags.journal = '{run_id}'", max_results=1):
                if run.info.status != "FINISHED":
                    return False
                with tempfile.TemporaryDirectory() as scratch:
                    found = Path(client.download_artifacts(run.info.run_id, name, scratch))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    part = target.with_name(f"{target.name}.part")
                    shutil.copyfile(found, part)
                    part.replace(target)
                return True
        except Exception:  # a server that is away, an artifact that was never there: the caller makes it anew
            return False
        return False
