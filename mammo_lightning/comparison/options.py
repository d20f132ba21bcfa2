"""What a person may say of a comparison, checked."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mammo_lightning.errors import SettingsError, TrackingError
from mammo_lightning.runs import Runs, Scored
from mammo_lightning.types import Kind

_POINT = re.compile(r"(?P<name>.+):(?P<fpr>[^:,]+),(?P<tpr>[^:,]+)")


def points_of(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Points from elsewhere: `name:fpr,tpr`, both between 0 and 1."""
    found = {}
    for text in texts:
        match = _POINT.fullmatch(text)
        try:
            rates = (float(match["fpr"]), float(match["tpr"])) if match else ()
        except ValueError:
            rates = ()
        if match is None or len(rates) != 2 or not all(0 <= rate <= 1 for rate in rates):
            raise SettingsError(
                f"--published {text!r} is not name:FPR,TPR with rates from 0 to 1, for instance 'readers:0.11,0.87'"
            )
        found[match["name"].strip()] = (rates[0], rates[1])
    return found


def check_prevalence(value: float | None) -> float | None:
    """A share of positives between 0 and 1."""
    if value is not None and not 0 < value < 1:
        raise SettingsError(f"--prevalence {value:g} is no share between 0 and 1, for instance 0.006 in screening")
    return value


def reference_of(runs: Runs, members: Sequence[Scored], word: str | None) -> Scored | None:
    """The run that was named to be compared with: a run, a study, or the reference classifier of a member's study."""
    if word is None:
        return None
    for study in dict.fromkeys(run.study.run_id for run in members if run.study is not None):
        for each in runs.of_study(study, (Kind.reference,)):
            if word in (each.tags.get("classifier"), each.run.identity["name"]):
                return each
    try:
        return runs.named([word])[0]
    except TrackingError as error:
        studies = [run.study.run_id for run in members if run.study is not None]
        beside = [
            each.tags.get("classifier", "") for study in studies for each in runs.of_study(study, (Kind.reference,))
        ]
        known = f"; or a reference of these studies: {', '.join(sorted({*filter(None, beside)}))}" if beside else ""
        raise TrackingError(f"--reference {word!r}: {error}{known}") from None
