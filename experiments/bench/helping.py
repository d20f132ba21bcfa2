"""How long `--help` of each verb takes, from nothing, and whether it imports what is heavy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from experiments.bench.measure import ROOT, Spread, table, timed

PRIVATE = {"__init__", "__main__", "cli", "display", "data_options"}
HEAVY = re.compile(r"\|\s+(torch|mlflow|pandas|sklearn|optuna|pytorch_lightning|albumentations|rich)\s*$", re.MULTILINE)


def verbs() -> list[str]:
    """All verbs that are there, the bench included."""
    folder = ROOT / "experiments"
    return sorted({path.stem for path in Path(folder).glob("*.py")} - PRIVATE | {"bench"})


def measure(console: Console, quick: bool) -> None:
    """Print the table."""
    names, rounds = (verbs()[:2], 2) if quick else (verbs(), 9)
    shown = table("--help, seconds", "verb", "best", "median (least-most)", "imports of weight", "asked")
    for name in names:
        took = [timed(lambda name=name: _run(name)) for _ in range(rounds)]  # type: ignore[misc]
        heavy = sorted(set(HEAVY.findall(_run(name, "-X", "importtime").stderr)))
        shown.add_row(name, f"{min(took):.2f}", str(Spread(tuple(took))), ", ".join(heavy) or "none", "below 0.5, none")
    console.print(shown)
    console.print("the whole process, from its start to its end\n")


def _run(verb: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-m", f"experiments.{verb}", "--help"]
    return subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=True)
