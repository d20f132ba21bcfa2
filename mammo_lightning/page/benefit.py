"""The decision curve: what acting on each run's probabilities is worth."""

from __future__ import annotations

from html import escape

import numpy as np

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.evaluation.benefit import net_benefit
from mammo_lightning.page.charts import figure, key, probable, shares_of, stamp
from mammo_lightning.page.svg import Plot


def decision(comparison: Comparison, prevalence: float | None) -> str:
    """Net benefit of acting on the score, beside acting on everybody and on nobody, all at one prevalence."""
    drawn, shares = probable(comparison), shares_of(comparison)
    stated = shares[drawn[0]] if prevalence is None else prevalence
    end = 0.9 if stated > 0.2 else min(0.9, 5 * stated)
    cuts = np.linspace(0.0, end, 200)
    plot = Plot("Decision curves", (0.0, end), (-0.15 * stated, 1.05 * stated), stamp=stamp(comparison))
    plot.x_label, plot.y_label, plot.left = "Threshold probability", "Net benefit", 54.0
    for number in reversed(drawn):
        entry = comparison.entries[number]
        moved = None if shares[number] == stated else stated
        table = net_benefit(entry.sure.labels, entry.sure.scores, moved, cuts)
        plot.line(table["threshold"], table["model"], number)
    plot.rule((0, 0), (end, 0))
    plot.line(cuts, stated - (1 - stated) * cuts / (1 - cuts), -1, kind="rule")
    where = float(stated * 0.55)
    plot.note(where if prevalence is None else 0.6 * stated, 0.5 * stated, "act on all", kind="tick")
    plot.note(end, 0.02 * stated, "act on none", anchor="end", kind="tick")
    about = f"At {_percent(stated)}, {_whose(comparison, prevalence)}. A threshold of t says 1/t − 1 false alarms are "
    about += f"worth one true one.{_foreign(comparison, stated)}"
    note = f"<figcaption>{escape(about)}</figcaption>"
    every = dict.fromkeys(drawn, "")
    return figure("Decision curve", plot.render(), key(comparison, every) + note)


def _whose(comparison: Comparison, prevalence: float | None) -> str:
    """Of whom the prevalence is that a decision curve is drawn at."""
    if prevalence is not None:
        return "the stated prevalence, to which scores are moved"
    drawn, shares = probable(comparison), shares_of(comparison)
    if len({shares[number] for number in drawn}) == 1:
        return "the prevalence of these rows"
    name = comparison.entries[drawn[0]].name
    return f"the prevalence of the rows of {name}, to which the scores of runs on other rows are moved"


def _foreign(comparison: Comparison, stated: float) -> str:
    """That a model's probabilities elsewhere still are of the share of positives it was trained with."""
    shares = shares_of(comparison)
    names = [
        comparison.entries[number].name
        for number in probable(comparison)
        if comparison.entries[number].split == "external" and shares[number] != stated
    ]
    if not names:
        return ""
    return (
        f" The probabilities of {', '.join(names)} are of the share of positives that the model was trained with; they "
        "are moved as if they were of the share among the external rows."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
