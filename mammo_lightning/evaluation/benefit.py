"""Decision curves: what acting on the score is worth, beside acting on everybody and on nobody."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from mammo_lightning.errors import DataError, SettingsError

__all__ = ["net_benefit"]


def net_benefit(labels: ArrayLike, scores: ArrayLike, prevalence: float | None, thresholds: ArrayLike) -> pd.DataFrame:
    """The net benefit (Vickers and Elkin 2006) at each threshold: tpr * prevalence - fpr * (1 - prevalence) * odds.

    The odds are those of the threshold: a threshold of 0.02 says that 49 false alarms are worth one true one. Where
    another prevalence is stated than that of the rows, the scores are moved to it (their odds multiplied by the ratio
    of the prior odds), because a probability right among many positives is too high among few.

    Args:
        labels: 0 or 1, one a row.
        scores: calibrated probability of the positive class among these rows.
        prevalence: share of positives where the score would be used; None is that of the rows.
        thresholds: probabilities from which one would act, 0 <= threshold < 1.

    Returns:
        One row a threshold: `threshold`, `model`, `all` (act on everybody), `none` (0).
    """
    truth, values = np.asarray(labels, np.int64), np.asarray(scores, float)
    cuts = np.atleast_1d(np.asarray(thresholds, float))
    positive = int((truth == 1).sum())
    if truth.shape != values.shape or not 0 < positive < truth.size:
        raise DataError(
            f"{positive} positive of {truth.size} labels, {values.size} scores; expected one each, both classes"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise DataError("scores outside 0 to 1; a decision curve needs probabilities. Calibrate them first.")
    if not ((cuts >= 0) & (cuts < 1)).all():
        raise SettingsError(f"thresholds {cuts.min():g} to {cuts.max():g}; expected 0 <= threshold < 1")
    share = positive / truth.size
    if prevalence is None:
        prevalence = share
    elif not 0 < prevalence < 1:
        raise SettingsError(f"prevalence {prevalence:g}; expected a share between 0 and 1, as 0.006 of a screening")
    else:
        values = expit(logit(values) + logit(prevalence) - logit(share))
    odds = cuts / (1 - cuts)
    high, low = np.sort(values[truth == 1]), np.sort(values[truth == 0])
    found = 1 - np.searchsorted(high, cuts, "left") / len(high)
    alarms = 1 - np.searchsorted(low, cuts, "left") / len(low)
    return pd.DataFrame(
        {
            "threshold": cuts,
            "model": found * prevalence - alarms * (1 - prevalence) * odds,
            "all": prevalence - (1 - prevalence) * odds,
            "none": np.zeros(len(cuts)),
        }
    )
