"""Charts of MLflow's chart page, in the form in which the UI keeps them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

Chart = dict[str, Any]


def line(key: str, *, over: str = "", runs: int = 20) -> Chart:
    """Curves of all shown runs: over the step, or over another metric."""
    return _chart(
        "LINE",
        runs,
        metricKey=key,
        selectedMetricKeys=[key],
        xAxisKey="metric" if over else "step",
        selectedXAxisMetricKey=over,
        yAxisKey="metric",
        yAxisExpressions=[],
        scaleType="linear",
        xAxisScaleType="linear",
        range={},
        lineSmoothness=0,
    )


def scatter(*, x: str, y: str, runs: int = 100) -> Chart:
    """One dot a run."""
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _chart("SCATTER", runs, **axes)


def parallel(*, params: Sequence[str], metrics: Sequence[str], runs: int = 100) -> Chart:
    """One line a run through its settings to its result; a run that lacks one of them is left out."""
    return _chart("PARALLEL", runs, selectedParams=list(params), selectedMetrics=list(metrics), showAllRuns=True)


def bar(key: str, *, runs: int = 20) -> Chart:
    """One bar a run."""
    return _chart("BAR", runs, metricKey=key)


def images(key: str, *, runs: int = 20) -> Chart:
    """A wall of one picture of each run."""
    return _chart("IMAGE", runs, imageKeys=[key], step=0, showRunParams=False)


def section(
    name: str, charts: Sequence[Chart], *, columns: int = 3, height: int = 360
) -> tuple[dict[str, Any], list[Chart]]:
    """A heading with charts under it, `columns` of them in a row."""
    heading = _heading(name, _stable("section", name, *(chart["uuid"] for chart in charts)), open_=True)
    heading |= {"columns": columns, "cardHeight": height}
    return heading, [{**chart, "metricSectionId": heading["uuid"]} for chart in charts]


def collapsed(name: str) -> dict[str, Any]:
    """A heading that stays closed, for charts the UI makes by itself."""
    return _heading(name, _stable("section", name), open_=False)


def _heading(name: str, identity: str, *, open_: bool) -> dict[str, Any]:
    fixed = {"isReordered": True, "deleted": False, "isGenerated": not open_}
    return {"uuid": identity, "name": name, "display": open_, **fixed}


def _chart(kind: str, runs: int, **more: Any) -> Chart:
    return {
        "uuid": _stable(kind, str(more)),
        "type": kind,
        "runsCountToCompare": runs,
        "deleted": False,
        "isGenerated": False,
        **more,
    }


def _stable(*parts: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_OID, "|".join(parts)).hex
