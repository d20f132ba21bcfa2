"""What a study tells at its end: rows of a table and the sentences under it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from mammo_lightning.evaluation.statistics import Estimate


@dataclass(frozen=True)
class Row:
    """One predictor: what it is, on which rows it was judged, and how well it did."""

    what: str
    judged_on: str
    auc: Estimate
    counts: str
    tpr: Estimate | None = None
    fpr: Estimate | None = None


@dataclass
class Summary:
    """The end of a study."""

    study: str
    run_id: str
    rule: str
    synthetic: bool = False
    rows: list[Row] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    link: str = ""
    kind: str = "study"

    def dumps(self) -> str:
        """As text, to be shown again when there is nothing left to do."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> Summary:
        """Read what `dumps` wrote."""
        kept = json.loads(text)

        def estimate(values: dict[str, float] | None) -> Estimate | None:
            return Estimate(**values) if values else None

        rows = [Row(**{**row, **{key: estimate(row[key]) for key in ("auc", "tpr", "fpr")}}) for row in kept["rows"]]
        return cls(**{**kept, "rows": rows})

    @property
    def title(self) -> str:
        """The study's name, stamped where its images are generated."""
        return self.study + (" · SYNTHETIC images" if self.synthetic else "")

    def markdown(self) -> str:
        """The table and the lines, as they stand in the study's note and artifact."""
        head = f"| predictor | judged on | AUC (95 % CI) | TPR at {self.rule} | FPR | counts |\n" + "|---" * 6 + "|\n"
        body = "\n".join(
            f"| {row.what} | {row.judged_on} | {row.auc} | {row.tpr or ''} | {row.fpr or ''} | {row.counts} |"
            for row in self.rows
        )
        return "\n\n".join([head + body, *self.lines]) + "\n"


def difference_line(what: str, estimate: Estimate, other: str = "reference") -> str:
    """How a network compares with the reference, or an ensemble with what it is shown beside, in a sentence."""
    if estimate.lo > 0:
        verdict = "the network earns its place" if other == "reference" else f"{what} is better"
    elif estimate.hi < 0:
        verdict = f"the {other} is better" if other == "reference" else f"{other} is better"
    else:
        verdict = "no difference is shown"
    sign = "+" if estimate.value >= 0 else "-"
    interval = f"{estimate.lo:+.3f} to {estimate.hi:+.3f}"
    return f"{what} minus {other}: {sign}{abs(estimate.value):.3f} AUC ({interval}), {verdict}"
