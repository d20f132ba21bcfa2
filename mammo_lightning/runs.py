"""Runs as others name them: by id, by the start of an id, or by the study they are of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.progress import Progress
from mammo_lightning.retention import order
from mammo_lightning.scored import Scored
from mammo_lightning.tracking.borrow import borrow
from mammo_lightning.tracking.journal import Journal, RunJournal
from mammo_lightning.types import Kind, Outcome

__all__ = ["SCORED", "Runs", "Scored", "known_runs"]

#: runs whose predictions can be combined, compared and registered
SCORED = (Kind.trial, Kind.final, Kind.reference, Kind.ensemble, Kind.external)
SHOWN = 6  # ids named in a message


def known_runs(mlruns: Path, uri: str, words: Iterable[str], progress: Progress) -> Runs:
    """The runs that are known here, with what other machines published of those that are meant."""
    borrow(words, mlruns, uri, progress.say, progress.loop)
    return Runs(mlruns)


def _order(trial: Scored) -> tuple[float, ...]:
    """What trials are sorted by, the best first."""
    names = ("objective", "objective_fpr")
    return order(tuple(trial.metrics[name] for name in names if name in trial.metrics) or (0.0,))


def _slot(run: RunJournal) -> tuple[int, str]:
    """Trials in the order of their slots, on whichever machine each began; other runs as they began."""
    return (len(run.run_id), run.run_id) if run.identity["kind"] == Kind.trial else (0, "")


class Runs:
    """The finished runs of one tracking folder, and those that were borrowed from other machines."""

    def __init__(self, mlruns: Path) -> None:
        self.mlruns = Path(mlruns)
        self.journal, self._borrowed = Journal(self.mlruns), Journal(self.mlruns, borrowed=True)
        if not self.journal.folder.is_dir() and not self._borrowed.folder.is_dir():
            raise TrackingError(
                f"no runs in '{mlruns}'; run `python -m experiments.tune` first, or pass --mlruns, or --tracking-uri "
                "where others have published"
            )

    @cached_property
    def _names(self) -> list[str]:
        own, lent = self.journal.runs(), self._borrowed.runs()
        if not lent:
            return own
        begun = {name: self._run(name).begun() for name in {*own, *lent}}
        return sorted(begun, key=lambda name: ((begun[name] or {"order": 0})["order"], name))

    def _run(self, run_id: str) -> RunJournal:
        """A run as it was made here; one that was not, or did not end here, as it was made elsewhere."""
        own = self.journal.run(run_id)
        if own.outcome is Outcome.completed or (lent := self._borrowed.run(run_id)).begun() is None:
            return own
        return lent

    def get(self, name: str) -> Scored:
        """One run, by its id, by the start of it that no other has, or as `study/t003`."""
        run = self._run(self._named(name))
        return self._scored(run)

    def study(self, name: str) -> RunJournal:
        """The newest study of that name (or id)."""
        for run_id in reversed(self._names):
            if run_id == name or (run_id.rpartition("-")[0] == name and "." not in run_id.removeprefix(name)):
                run = self._run(run_id)
                if run.identity.get("kind") == Kind.study:
                    return run
        known = dict.fromkeys(self._study_name(run_id) for run_id in self._names if "." not in run_id)
        names = ", ".join(sorted(filter(None, known))) or "none"
        raise TrackingError(f"no study {name!r} in '{self.mlruns}'; known: {names}")

    def of_study(self, name: str, kinds: Iterable[Kind] = (Kind.trial,), split: str | None = "val") -> list[Scored]:
        """The completed runs of a study that have predictions of a split (if one is named), in their order."""
        study, wanted = self.study(name), set(kinds)
        runs = [self._run(each) for each in self._names if each.startswith(f"{study.run_id}.")]
        found = [run for run in runs if run.identity.get("kind") in wanted and run.outcome is Outcome.completed]
        found.sort(key=_slot)
        return [each for run in found if (each := Scored(run, study)) and (split is None or each.has(split))]

    def evaluations(self, models: Iterable[str]) -> list[Scored]:
        """Finished evaluations on other datasets of the models of some runs, in the order in which they began."""
        wanted, found = set(models), []
        for run in map(self._run, self._names):
            if run.identity.get("kind") == Kind.external and run.outcome is Outcome.completed:
                scored = Scored(run)
                if scored.tags.get("model_run") in wanted and scored.has("external"):
                    found.append(scored)
        return found

    def experts(self, name: str) -> list[Scored]:
        """What a nested study chose in each outer fold, judged on patients reserved from all; empty if not nested."""
        study = self.study(name)
        whole = Scored(study, study)
        if whole.recipe is None or whole.recipe.scheme != "nested":
            return []
        found = self.of_study(name, (Kind.study,), "reserve")
        if not found:
            raise DataError(
                f"study {name!r} is nested and reserved nobody: its experts share no rows that none was trained on. "
                "Tune with --scheme nested --reserve 0.2"
            )
        return found

    def named(self, words: Iterable[str]) -> list[Scored]:
        """Runs by id, and for the name of a study its final (or, without one, its best trial)."""
        found = []
        for word in words:
            try:
                found.append(self.get(word))
            except TrackingError as error:
                try:
                    found.append(self._best_of(word))
                except TrackingError as other:
                    raise (other if self._is_study(word) else error) from None
        return found

    def _best_of(self, study: str) -> Scored:
        if above := self.study(study).identity["parent"]:
            raise TrackingError(f"run {study!r} is an outer fold of '{above}'; name that study, or a trial of the fold")
        finals = self.of_study(study, (Kind.final,))
        trials = finals or sorted(self.of_study(study), key=_order)
        if not trials:
            raise TrackingError(f"study {study!r} has no completed trial; run its command again to go on with it")
        return trials[-1] if finals else trials[0]

    def _scored(self, run: RunJournal) -> Scored:
        identity = run.identity
        if identity.get("kind") not in {str(kind) for kind in SCORED}:
            raise TrackingError(
                f"run '{run.run_id}' is of kind {identity.get('kind', 'unknown')}; runs with predictions are "
                f"{', '.join(SCORED)}"
            )
        if run.outcome is not Outcome.completed:
            how = f"{run.outcome} ({run.reason})" if run.outcome else "not ended"
            raise TrackingError(f"run '{run.run_id}' is {how}; choose a completed one")
        above = identity.get("parent")
        study = self._run(above.split(".")[0]) if above else None
        if study is not None and study.begun() is None:
            raise TrackingError(
                f"run '{run.run_id}' is of study '{study.run_id}', which is not in '{self.mlruns}': how it is to be "
                "judged is not known. Restore the study's folder"
            )
        return Scored(run, study)

    def _named(self, name: str) -> str:
        if name in self._names:
            return name
        study, slash, rest = name.partition("/")
        starts = [f"{self.study(study).run_id}.{rest}"] if slash else [name]
        found = [each for each in self._names if each.startswith(starts[0])]
        # predictions made elsewhere go by the name that they were given
        found = found or [each for each in self._names if each.startswith(f"external-{name}-")]
        if slash or "." in name:
            exact = [each for each in found if each.rpartition(".")[2] in (rest or name.rpartition(".")[2],)]
            found = exact or found
        if len(found) == 1:
            return found[0]
        if not found:
            raise TrackingError(
                f"no run {name!r} in '{self.mlruns}'; give an id as MLflow shows it in the tag journal, STUDY/t003, or "
                "the name of a study"
            )
        raise TrackingError(f"{name!r} begins {len(found)} ids: {', '.join(found[:SHOWN])}; give one of them whole")

    def _is_study(self, word: str) -> bool:
        return word in self._names and self._run(word).identity.get("kind") == Kind.study

    def _study_name(self, run_id: str) -> str:
        identity = self._run(run_id).identity
        return str(identity.get("study", "")) if identity.get("kind") == Kind.study else ""
