"""Images are decoded in order by several threads into one file; whatever stops it, it goes on and ends the same."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.errors import DataError
from mammo_lightning.types import digest

COUNT = 150


class Many(MammoDataModule):
    """Rows three to a file, each with pixels of its own; every seventh is noticed, every fortieth cannot be read."""

    name = "many"

    def __init__(self, *, stop_after: int = COUNT + 1, kill_at: int = -1, torn: bool = False, **base: Any) -> None:
        super().__init__(**base)
        self.stop_after, self.kill_at, self.torn = stop_after, kill_at, torn
        self.reads, self.opens = [], []  # type: ignore[var-annotated]
        self.lock = threading.Lock()

    def index(self) -> pd.DataFrame:
        number = np.arange(COUNT)
        names = [f"i{each:03d}" for each in number]
        return pd.DataFrame(
            {"image": names, "patient": names, "label": number % 2, "path": [f"film{each // 3}" for each in number]}
        )

    def contents(self, frame: pd.DataFrame) -> list[str]:
        return [digest(image) for image in frame["image"]]

    def open(self, path: str) -> int:
        with self.lock:
            self.opens.append(path)
        return int(path.removeprefix("film"))

    def read(self, row: Any) -> np.ndarray:
        number = int(row["image"][1:])
        assert self.opened(row["path"]) == number // 3
        with self.lock:
            self.reads.append(number)
        time.sleep(0.002 * (number % 3))
        if number == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number % 7 == 0:
            self.notice("sevenths")
        if number % 40 == 39:
            raise DataError(f"'{row['image']}' is broken")
        return np.random.default_rng(number).integers(0, 255, (9, 9), np.uint8)

    def progress(self, items: Iterable[Any], what: str, total: int) -> Iterable[Any]:
        for number, item in enumerate(items):
            if what == "decoding" and number == self.stop_after:
                raise KeyboardInterrupt("stopped here")
            yield item


def opened(tmp_path: Path, **how: Any) -> Many:
    data = Many(mlruns=tmp_path, lenient=True, **how)
    data.prepare_data()
    return data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Many:
    return opened(tmp_path_factory.mktemp("whole"))


def same(one: Many, other: Many) -> None:
    assert np.array_equal(one.images, other.images)
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert one.notices == other.notices
    assert one.unreadable == other.unreadable
    assert one.digest == other.digest


def test_rows_keep_their_order_their_notices_and_their_faults(whole: Many) -> None:
    kept = [number for number in range(COUNT) if number % 40 != 39]
    assert whole.frame["image"].tolist() == [f"i{number:03d}" for number in kept]
    for position in (0, 50, len(kept) - 1):
        expected = np.random.default_rng(kept[position]).integers(0, 255, (9, 9), np.uint8)
        assert np.array_equal(whole.images[position, 0], expected)
    assert whole.notices == {"sevenths": len(range(0, COUNT, 7))}
    flagged = whole.frame["flags"] == "sevenths"
    assert whole.frame.loc[flagged, "image"].str[1:].astype(int).mod(7).eq(0).all()
    assert [name for name, _ in whole.unreadable] == ["i039", "i079", "i119"]


def test_a_film_is_opened_once_for_all_its_rows(whole: Many) -> None:
    assert len(whole.opens) == len(set(whole.opens)) == COUNT // 3


@pytest.mark.parametrize("after", [1, 40, 77, COUNT - 1])
def test_interrupted_it_goes_on_where_it_stopped(tmp_path: Path, whole: Many, after: int) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped here"):
        opened(tmp_path, stop_after=after)
    again = opened(tmp_path)
    assert min(again.reads) == after
    same(again, whole)


@pytest.mark.parametrize("victim", [5, 90, 149])
def test_killed_it_ends_in_the_same(tmp_path: Path, whole: Many, victim: int) -> None:
    child = multiprocessing.get_context("fork").Process(target=opened, args=(tmp_path,), kwargs={"kill_at": victim})
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert not list(tmp_path.glob("cache/*/meta.json"))
    same(opened(tmp_path), whole)


@pytest.mark.parametrize("damage", ["torn line", "torn pixels", "lost pixels", "no log"])
def test_what_was_written_half_is_done_again(tmp_path: Path, whole: Many, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped here"):
        opened(tmp_path, stop_after=80)
    (part,) = tmp_path.glob("cache/*.part")
    log, images = part / "rows.jsonl", part / "images.npy"
    match damage:
        case "torn line":
            log.write_text(log.read_text()[:-9])
        case "torn pixels":
            images.write_bytes(images.read_bytes()[:-20])
        case "lost pixels":
            images.write_bytes(images.read_bytes()[:1500])
        case "no log":
            log.unlink()
    again = opened(tmp_path)
    assert max(again.reads) == COUNT - 1
    same(again, whole)


def test_without_leave_to_skip_the_first_fault_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'i039' is broken \(and 2 more; the audit lists all\)"):
        Many(mlruns=tmp_path).prepare_data()
    assert not list(tmp_path.glob("cache/*.part"))


def test_the_log_is_gone_when_all_is_done(tmp_path: Path) -> None:
    opened(tmp_path)
    (folder,) = tmp_path.glob("cache/many-*[!k]")
    assert json.loads((folder / "meta.json").read_text())["seen"] == {"sevenths": 22}
    assert not (folder / "rows.jsonl").exists()
