"""The same examples in every run: a run that fails can be run again, and a change is judged by what it changed.

`HYPOTHESIS_PROFILE=explore` draws fresh ones.
"""

import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest goes first: begun last, it would keep everybody waiting."""
    allowed = {item: mark.args[0] for item in items if (mark := item.get_closest_marker("timeout"))}
    items.sort(key=lambda item: -allowed.get(item, 0))


@pytest.fixture(autouse=True)
def addresses() -> Iterator[None]:
    """MLflow keeps the address of a store for the whole process; no test inherits another's."""
    yield
    if (mlflow := sys.modules.get("mlflow")) is not None:
        mlflow.set_tracking_uri(None)
