"""AUC as won pairs, counted once between groups: thousands of replicates are then one matrix product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mammo_lightning.types import Predictions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Pairs of a positive and a negative row, by the groups they are of; a pair is won by the higher score."""

    positive_groups: NDArray[np.intp]
    negative_groups: NDArray[np.intp]
    positives: Floats
    negatives: Floats
    won: Floats  # (positive groups, negative groups); a tie is half a pair

    @classmethod
    def of(cls, labels: NDArray[np.int64], scores: Floats, codes: NDArray[np.intp]) -> Pairs:
        """Count the pairs of some rows."""
        high, low = labels == 1, labels == 0
        order = np.argsort(codes[high], kind="stable")
        positive_scores = scores[high][order]
        positive_groups, starts, sizes = np.unique(codes[high][order], return_index=True, return_counts=True)
        negative_groups, inverse = np.unique(codes[low], return_inverse=True)
        won = np.empty((len(positive_groups), len(negative_groups)))
        for column in range(len(negative_groups)):
            ranked = np.sort(scores[low][inverse == column])
            beaten = ranked.searchsorted(positive_scores, "left") + ranked.searchsorted(positive_scores, "right")
            won[:, column] = 0.5 * np.add.reduceat(beaten, starts)
        return cls(positive_groups, negative_groups, sizes.astype(float), np.bincount(inverse).astype(float), won)

    def count(self, multiplicity: NDArray[np.generic]) -> tuple[Floats, Floats]:
        """Pairs won and pairs in all, for each row of (replicates, groups)."""
        high = multiplicity[:, self.positive_groups].astype(float)
        low = multiplicity[:, self.negative_groups].astype(float)
        won = np.einsum("rn,rn->r", high @ self.won, low)
        return won, (high @ self.positives) * (low @ self.negatives)


def fold_pairs(predictions: Predictions, codes: NDArray[np.intp]) -> dict[int, Pairs]:
    """The pairs of each fold that holds both classes."""
    labels, scores, folds = predictions.labels, predictions.scores, predictions.folds
    found = {}
    for fold in np.unique(folds).tolist():
        rows = folds == fold
        if 0 < labels[rows].sum() < rows.sum():
            found[fold] = Pairs.of(labels[rows], scores[rows], codes[rows])
    return found
