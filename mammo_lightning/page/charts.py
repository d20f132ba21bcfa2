"""The curves of a comparison: ROC, precision, calibration, learning."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from html import escape

import numpy as np

from mammo_lightning.comparison.compare import Comparison
from mammo_lightning.comparison.learning import learning_curves
from mammo_lightning.evaluation.calibration import reliability
from mammo_lightning.evaluation.curves import pr_points, roc_points
from mammo_lightning.page.svg import HEIGHT, WIDTH, Plot, marker, nice_ticks, of_run

FPR, TPR = "1 − specificity (FPR)", "Sensitivity (TPR)"
STEPS = 401
CORNER = 0.92  # from this AUC on all curves lie in the corner, and it is drawn once more, larger
SIDE = 0.2  # of that corner
WORDS = {"train_loss": "Training loss", "inner_loss": "Inner-slice loss", "inner_auc": "Inner-slice AUC"}
Published = Mapping[str, tuple[float, float]]


def swatch(number: int) -> str:
    """A run's line and marker, as a key shows them."""
    line = f'<polyline class="line" {of_run(number)} points="1,8 31,8"/>'
    return f'<svg class="swatch" viewBox="0 0 32 16" aria-hidden="true">{line}{marker(16, 8, number)}</svg>'


def key(comparison: Comparison, values: Mapping[int, str]) -> str:
    """Under a chart: which line is which run, and the figure that sums it up."""
    items = "".join(
        f"<li {of_run(number)}>{swatch(number)}{escape(comparison.entries[number].name)} <b>{escape(value)}</b></li>"
        for number, value in values.items()
    )
    return f'<ul class="key">{items}</ul>'


def figure(title: str, plot: str, below: str = "") -> str:
    """A chart under its title."""
    return f"<figure><h3>{escape(title)}</h3>{plot}{below}</figure>"


def roc(comparison: Comparison, published: Published) -> str:
    """ROC curves with each run's operating point, and points from elsewhere."""
    plot = Plot("ROC curves", x_label=FPR, y_label=TPR, stamp=stamp(comparison))
    plot.rule((0, 0), (1, 1))
    curves = {number: roc_points(entry.table, STEPS) for number, entry in enumerate(comparison.entries)}
    for number in drawn_last_first(comparison):
        plot.line(*_from_origin(*curves[number]), number)
    larger: set[str] = set()
    if min(comparison.table["pooled_auc"]) >= CORNER:
        plot.above.append(_corner(comparison, curves, published))
        larger = {name for name, (x, y) in published.items() if x <= SIDE and y >= 1 - SIDE}
    _points(plot, comparison, published, larger)
    values = {number: f"{comparison.estimate(number, 'pooled_auc').value:.3f}" for number in curves}
    pooled = any(entry.folded for entry in comparison.entries)
    return figure("ROC", plot.render(), key(comparison, values) + _caption("AUC of pooled rows" if pooled else "AUC"))


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}; markers: operating points.</figcaption>"


def _from_origin(xs: Sequence[float] | np.ndarray, ys: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[0.0, xs], np.r_[0.0, ys]


def _points(plot: Plot, comparison: Comparison, published: Published, elsewhere: Container[str] = ()) -> None:
    for number, entry in enumerate(comparison.entries):
        row = comparison.table.iloc[number]
        if np.isfinite(row["tpr"]) and _inside(plot, row["fpr"], row["tpr"]):
            told = f"{entry.name}: TPR {row['tpr']:.3f}, FPR {row['fpr']:.3f} ({entry.point})"
            plot.mark(row["fpr"], row["tpr"], number, told)
    for name, (false_rate, true_rate) in published.items():
        if _inside(plot, false_rate, true_rate):
            place = f'cx="{plot.px(false_rate):g}" cy="{plot.py(true_rate):g}"'
            plot.above.append(f'<circle class="published" {place} r="4.5"><title>{escape(name)}</title></circle>')
            early = false_rate < (plot.x[0] + plot.x[1]) / 2
            shift = 0.022 * (plot.x[1] - plot.x[0]) * (1 if early else -1)
            drop = 0.012 * (plot.y[1] - plot.y[0])
            if name not in elsewhere:
                plot.note(false_rate + shift, true_rate - drop, name, anchor="start" if early else "end")


def _inside(plot: Plot, x: float, y: float) -> bool:
    return plot.x[0] <= x <= plot.x[1] and plot.y[0] <= y <= plot.y[1]


def _corner(comparison: Comparison, curves: Mapping[int, tuple[np.ndarray, np.ndarray]], published: Published) -> str:
    """The upper left corner once more, in the empty part of the chart."""
    side = 222.0
    inner = Plot(
        "the upper left corner, larger", (0.0, SIDE), (1 - SIDE, 1.0), width=side, height=side, ticks=2, hover=False
    )
    inner.left, inner.bottom = 30.0, 22.0
    for number in drawn_last_first(comparison):
        inner.line(*_from_origin(*curves[number]), number)
    _points(inner, comparison, published)
    x, y = WIDTH - side - 14, HEIGHT - side - 52
    ground = f'<rect class="inset" x="{x - 6:g}" y="{y:g}" width="{side + 8:g}" height="{side:g}" rx="4"/>'
    placed = f'<svg x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" '
    return ground + inner.render().replace("<svg ", placed, 1).replace('class="plot" ', "", 1)


def precision(comparison: Comparison) -> str:
    """Precision against sensitivity; chance is the share of positives."""
    plot = Plot("Precision-recall curves", x_label=TPR, y_label="Precision (PPV)", stamp=stamp(comparison))
    shares = shares_of(comparison)
    common = len(set(shares)) == 1
    for number, share in enumerate(shares[:1] if common else shares):
        plot.line((0, 1), (share, share), -1 if common else number, kind="rule")
    for number in drawn_last_first(comparison):
        plot.line(*pr_points(comparison.entries[number].table, STEPS), number)
    values = {n: f"{comparison.estimate(n, 'ap').value:.3f}" for n in range(len(comparison.entries))}
    told = (
        f"the {shares[0]:.1%} of rows that are positive" if common else "the share of each run’s rows that is positive"
    )
    note = f"<figcaption>Average precision; dashed: {told}."
    note += "" if common else " Precision rises with that share: these runs are not to be compared by it."
    note += "</figcaption>"
    return figure("Precision and sensitivity", plot.render(), key(comparison, values) + note)


def calibration(comparison: Comparison) -> str:
    """What share of rows with a score is positive."""
    plot = Plot("Calibration", x_label="Predicted probability", y_label="Observed share", stamp=stamp(comparison))
    plot.rule((0, 0), (1, 1))
    values = {}
    for number in drawn_last_first(comparison):
        entry = comparison.entries[number]
        if not entry.probable:
            continue
        table = reliability(entry.sure.labels, entry.sure.scores)
        plot.line(table["score"], table["observed"], number)
        for score, observed in table[["score", "observed"]].itertuples(index=False):
            plot.above.append(marker(plot.px(score), plot.py(observed), number, size=3.4))
    for number in probable(comparison):
        slope, large = (comparison.estimate(number, f"calibration_{name}").value for name in ("slope", "intercept"))
        values[number] = f"slope {_two(slope)}, intercept {_two(large, '+')}"
    note = (
        "<figcaption>Ten bins of equal mass. Slope 1 and intercept 0 are right; below 1 is overconfident.</figcaption>"
    )
    return figure("Calibration", plot.render(), key(comparison, values) + note)


def shares_of(comparison: Comparison) -> list[float]:
    """What share of each run's rows is positive."""
    return (comparison.table["positive"] / (comparison.table["positive"] + comparison.table["negative"])).tolist()


def probable(comparison: Comparison) -> list[int]:
    """The runs whose scores can be read as probabilities."""
    return [number for number, entry in enumerate(comparison.entries) if entry.probable]


def learning(comparison: Comparison) -> str:
    """Learning curves, as means over folds; empty where no run was trained by epochs."""
    drawn = []
    for name, runs in learning_curves(comparison.entries).items():
        epochs = max(map(len, runs.values()))
        values = np.concatenate([np.array(curve) for curve in runs.values()])
        low, high = (0.5, 1.0) if name.endswith("auc") else (0.0, float(np.nanquantile(values, 0.98)) * 1.08)
        ticks = nice_ticks(min(low, float(values.min())), high, 4)
        plot = Plot(WORDS[name], (1.0, max(2.0, epochs)), (min(low, ticks[0]), high), "Epoch", WORDS[name])
        plot.height, plot.stamp, plot.left = 250.0, stamp(comparison), 50.0
        for number, curve in runs.items():
            plot.line(range(1, len(curve) + 1), curve, number)
        drawn.append(figure(WORDS[name], plot.render(), key(comparison, dict.fromkeys(runs, ""))))
    return "".join(drawn)


def histograms(comparison: Comparison) -> str:
    """Per run, how the scores of each class are spread."""
    negative, positive = comparison.classes
    drawn = []
    for number, entry in enumerate(comparison.entries):
        labels, scores = entry.decided.labels, entry.decided.scores
        edges = np.linspace(0.0, 1.0, 26)
        shares = [np.histogram(scores[labels == each], edges)[0] / (labels == each).sum() for each in (1, 0)]
        most = float(np.sqrt(max(part.max() for part in shares)))
        plot = Plot(f"Scores of {entry.name}", y=(-most, most), width=260, height=150, ticks=0, hover=False)
        plot.left, plot.bottom, plot.stamp = 8.0, 22.0, stamp(comparison)
        for part, sign, kind in zip(shares, (1, -1), ("up", "down"), strict=True):
            for low, high, value in zip(edges[:-1], edges[1:], np.sqrt(part), strict=True):
                if value:
                    plot.bar((low, high), (0.0, sign * value), number, kind)
        plot.rule((0, 0), (1, 0))
        if 0 <= entry.threshold <= 1:
            plot.rule((entry.threshold, -most), (entry.threshold, most))
        about = f"<figcaption>{swatch(number)} {escape(entry.name)}</figcaption>"
        drawn.append(f"<figure {of_run(number)}>{plot.render()}{about}</figure>")
    words = f"Up: {escape(positive)}. Down: {escape(negative)}. Heights are square roots of shares of the class; "
    return f'<p class="about">{words}dashed: the threshold.</p><div class="grid4">{"".join(drawn)}</div>'


def stamp(comparison: Comparison) -> str:
    """What every chart says on its face where images were generated."""
    return "SYNTHETIC" if comparison.synthetic else ""


def drawn_last_first(comparison: Comparison) -> Iterable[int]:
    """The reference under the others, the first run on top."""
    return reversed(range(len(comparison.entries)))


def _two(value: float, sign: str = "-") -> str:
    return "–" if np.isnan(value) else f"{value:{sign}.2f}".replace("-", "−")
