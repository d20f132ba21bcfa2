"""The second start on the same images against the first, and what each worker holds in memory."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.bench.measure import Spread, answer, asked, child, ratio, table


def measure(console: Console, quick: bool) -> None:
    """Print both tables."""
    images, side, rounds = (20, 64, 1) if quick else (600, 768, 3)
    first, second = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "images", images, side)
        for number in range(rounds):
            where = {"root": str(folder / "images"), "mlruns": str(folder / f"mlruns{number}")}
            first.append(child("caching", **where)["seconds"])
            second.append(child("caching", **where)["seconds"])
    shown = table(f"opening {images} PNG files of {side} x {side}", "start", "seconds", "first : this")
    shown.add_row("first", str(Spread(tuple(first), 3)), "")
    shown.add_row("second, from the cache", str(Spread(tuple(second), 3)), str(ratio(first, second)))
    console.print(shown)
    console.print("each in a process of its own; its start and imports left out\n")
    _memory(console, quick)


def _memory(console: Console, quick: bool) -> None:
    size = {"patients": 24, "folds": 2, "trials": 2} if quick else {"patients": 400, "folds": 5, "trials": 2}
    found = child("ours", workers=2, epochs=[1 if quick else 2], **size)
    shown = table(
        f"memory of a study on {4 * size['patients']} images, 2 workers", "process", "private, MiB", "shared, MiB"
    )
    shown.add_row("main", f"{found['main']:.0f}", "")
    for number, (own, common) in enumerate(found["memory"]):
        shown.add_row(f"child {number}", f"{own:.0f}", f"{common:.0f}")
    console.print(shown)
    console.print("the most at one look; workers, the process they are forked from, and helpers of multiprocessing\n")


def _write(folder: Path, images: int, side: int) -> None:
    import cv2

    rng = np.random.default_rng(0)
    for number in range(images):
        where = folder / ("benign", "malignant")[number % 2]
        where.mkdir(parents=True, exist_ok=True)
        pixels = cv2.GaussianBlur(rng.integers(0, 255, (side, side), np.uint8), (0, 0), 2)
        cv2.imwrite(str(where / f"p{number // 2:04d}_{number}.png"), pixels)


def _open(root: Path, mlruns: Path) -> float:
    from mammo_lightning.registry import DATASETS

    cls = DATASETS.get("folder")
    start = time.perf_counter()
    data = cls(root=root, mlruns=mlruns, size=128, patient_from=r"(p\d+)_")
    data.prepare_data()
    float(np.asarray(data.images).mean())
    return time.perf_counter() - start


if __name__ == "__main__":
    given = asked()
    answer(seconds=_open(Path(given["root"]), Path(given["mlruns"])))
