"""The plan of the house, read from the source: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = [
    {"types", "errors", "registry", "recipe", "progress", "owner", "hardware"},
    {"preprocessing", "imbalance", "evaluation"},
    {"datamodules", "classifiers", "generators"},
    {"explanation", "tracking"},
    {"space", "watch", "task", "training", "opening", "extraction"}
    | {"provenance", "ledger", "identity", "record", "retention", "runs", "scored"},
    {"outages", "wall"},
    {"engine"},
    {"tuning", "final", "reports", "controls", "elsewhere", "plan"}
    | {"auditing", "ensembles", "comparison", "page", "scoring", "registration", "waterfall"},
    {"slots"},
    {"trials"},
    {"adoption"},
    {"reference"},
    {"finish"},
    {"study"},
    {"health", "clearing"},
]
ROW = {name: position for position, row in enumerate(ROWS) for name in row}
FOLDERS = {"preprocessing", "imbalance", "evaluation", "datamodules", "classifiers", "generators"}
FOLDERS |= {"explanation", "tracking"}


def room(path: Path) -> str:
    parts = path.relative_to(ROOT / "mammo_lightning").with_suffix("").parts
    return parts[0]


def imported(path: Path, *, top_level: bool = False) -> set[str]:
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", files("mammo_lightning"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_from_rows_above(path: Path) -> None:
    mine = room(path)
    if mine == "__init__":
        return
    assert mine in ROW, f"{mine} stands in no row; give it one"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "experiments":
            pytest.fail(f"{path.name} imports {name}: the package does not know its verbs")
        if parts[0] != "mammo_lightning" or len(parts) < 2 or parts[1] == mine or parts[1] not in ROW:
            continue
        below = ROW[parts[1]] < ROW[mine] or (mine not in FOLDERS and ROW[parts[1]] == ROW[mine])
        assert below, f"{path.name} in row {ROW[mine]} imports {name} of row {ROW[parts[1]]}"


def test_one_room_each_for_mlflow_and_optuna() -> None:
    for path in files("mammo_lightning"):
        for name in imported(path):
            if name.split(".")[0] == "mlflow":
                assert room(path) == "tracking", f"{path.name} imports {name}"
            if name.split(".")[0] == "optuna" and not name.startswith("optuna.distributions"):
                assert room(path) in ("tuning", "outages"), f"{path.name} imports {name}"


def test_verbs_import_nothing_heavy_before_they_run() -> None:
    light = {"typer", "rich", "experiments", "mammo_lightning", "__future__"}
    for path in (ROOT / "experiments").glob("*.py"):
        if path.stem == "display":
            continue
        for name in imported(path, top_level=True):
            first = name.split(".")[0]
            assert first in light | set(sys.stdlib_module_names), f"{path.name} imports {name} at once"
            assert not name.startswith("mammo_lightning"), f"{path.name} imports {name} at once"


def test_only_verbs_read_arguments() -> None:
    for path in files("mammo_lightning"):
        assert "sys.argv" not in path.read_text(), f"{path.name} reads arguments"


def test_no_file_is_longer_than_one_idea() -> None:
    for path in [*files("mammo_lightning"), *files("experiments")]:
        assert len(path.read_text().splitlines()) <= 300, f"{path.name} wants to be two files"
