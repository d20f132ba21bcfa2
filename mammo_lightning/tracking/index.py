"""Which runs have begun, without opening ten thousand files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from mammo_lightning.tracking import lines


class Index:
    """A cache of the order in which runs began; what it lacks is read from the journals and added."""

    def __init__(self, folder: Path, order_of: Callable[[str], int | None]) -> None:
        self.folder = folder
        self.path = folder / "runs.jsonl"
        self._order_of = order_of
        self._order: dict[str, int] = {}
        self._offset = 0
        self._present: set[str] = set()
        self._sorted: list[str] = []

    def names(self) -> list[str]:
        """Names of all runs that have begun and are still there, in order of their beginning."""
        try:
            with os.scandir(self.folder) as entries:
                present = {entry.name for entry in entries if entry.name[0] != "." and entry.is_dir()}
        except FileNotFoundError:
            return []
        if not present <= self._order.keys():
            self._read()
            self._add(present - self._order.keys())
        if present != self._present or len(self._sorted) != len(present & self._order.keys()):
            self._present = present
            self._sorted = sorted(present & self._order.keys(), key=lambda name: (self._order[name], name))
        return list(self._sorted)

    def _read(self) -> None:
        if lines.size(self.path) < self._offset:
            self._offset = 0
        found, self._offset = lines.read(self.path, self._offset)
        for line in found:
            entry = lines.parse(line) or {}
            if isinstance(entry.get("run"), str) and isinstance(entry.get("order"), int):
                self._order[entry["run"]] = entry["order"]

    def _add(self, names: set[str]) -> None:
        found = {name: order for name in names if (order := self._order_of(name)) is not None}
        if not found:
            return
        self._order |= found
        text = "".join(json.dumps({"run": name, "order": order}) + "\n" for name, order in found.items())
        try:
            lines.append(self.path, text.encode())
        except OSError:  # a folder that is only read: the next reader looks again
            return
