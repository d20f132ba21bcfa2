"""Every dataset over broken files: what opens has the labels and patients it had, or it is refused in one line."""

import io
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from fake_cbis_ddsm import write_cbis_arrays
from fakes import WRITERS
from mutations import mutant

from mammo_lightning.datamodules.base import MammoDataModule, _checked
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import DATASETS

MUTANTS = 2000
#: one in so many is opened whole, pixels and all
WHOLE = 40
#: suffixes of what says labels and patients, where not the names do
WRITTEN = (".csv", ".txt")


class Said(NamedTuple):
    """How a dataset's table says what a row is, read without any reader: by lines that hold a key."""

    key: Callable[[pd.Series], str]
    #: what such a line holds where the label is 0, and where it is 1
    words: tuple[str, str]
    patient: bool = False


def _of_film(row: pd.Series) -> str:
    return f"{row['patient']}_{ {'L': 'LEFT', 'R': 'RIGHT'}[row['laterality']] }_{row['view']}_1/"


SAID = {
    "table": Said(lambda row: row["image"], ("benign", "malignant"), patient=True),
    "cbis_ddsm": Said(_of_film, ("BENIGN", "MALIGNANT"), patient=True),
    "inbreast": Said(lambda row: row["image"], (r"; *[12] *$", r"; *(4[abc]?|5|6) *$")),
    "mias": Said(lambda row: Path(row["path"]).stem, ("NORM", "CALC|CIRC|SPIC|MISC|ARCH|ASYM")),
    "screening": Said(lambda row: row["exam"], (r", *\"?1\"? *$", r", *\"?[02]\"? *$")),
}
#: the other layout of a dataset that has two
ARRAYS = "cbis_ddsm arrays"
OPTIONS: dict[str, dict[str, Any]] = {"cbis_ddsm": {"task": "benign_malignant"}}
PATIENTS = {"synthetic": 0, "cbis_ddsm": 6, "inbreast": 4, "mias": 4, "table": 4, "screening": 4}


class Broken(NamedTuple):
    """What was done to one file."""

    path: Path
    content: bytes | None  # None where it was not its content
    what: str


def accidents(files: list[Path], count: int) -> Iterator[Broken]:
    """One file after another is broken, and mended when the next is asked for; kinds of files take turns."""
    rng = np.random.default_rng(0)
    kinds = sorted({path.suffix for path in files})
    whole = {path: path.read_bytes() for path in files}
    for number in range(count):
        some = [path for path in files if path.suffix == kinds[number % len(kinds)]]
        path = some[rng.integers(len(some))]
        if rng.random() < 0.8:
            content = mutant(whole[path], rng)
            path.write_bytes(content)
            yield Broken(path, content, "content")
            path.write_bytes(whole[path])
            continue
        what = ("gone", "renamed", "copied", "folder", "circle", "nowhere")[rng.integers(6)]
        name = mutant(path.name.encode(), rng).replace(b"/", b"_").replace(b"\0", b"0")[:200]
        other = Path(str(path.parent), name.decode("utf-8", "surrogateescape"))
        if name in (b"", b".", b"..") or other.exists():
            what = "gone"
        if what == "copied":
            shutil.copy(path, other)
        elif what == "renamed":
            path.rename(other)
        else:
            path.unlink()
        if what == "folder":
            path.mkdir()
        elif what in ("circle", "nowhere"):
            path.symlink_to(path if what == "circle" else path.parent / "absent")
        yield Broken(path, None, what)
        if what in ("copied", "renamed"):
            other.unlink()
        elif what == "folder":
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(whole[path])


def write(name: str, root: Path) -> dict[str, Any]:
    """The files of a dataset, in the layout that is meant."""
    if name == ARRAYS:
        return write_cbis_arrays(root, patients=20)
    return WRITERS[name](root, patients=PATIENTS.get(name, 6)) | OPTIONS.get(name, {})


def opened(name: str, options: dict[str, Any], mlruns: Path, broken: Broken, *, whole: bool) -> pd.DataFrame | None:
    """The rows, or None where they were refused in one line."""
    said, frame = "", None
    start = time.monotonic()
    try:
        data: MammoDataModule = DATASETS.get(name.split()[0])(mlruns=mlruns, lenient=whole, **options)
        if whole:
            data.prepare_data()
            frame = data.frame.assign(path=data._index.set_index("image").loc[data.frame["image"], "path"].tolist())
        else:
            frame = _checked(data.index())
            for _, row in frame[frame["path"] == str(broken.path)].iloc[:2].iterrows():
                read_one(data, row)
    except (DataError, SettingsError) as error:
        said = str(error)
    assert time.monotonic() - start < 60
    assert "\n" not in said
    assert said or frame is not None
    return frame


def read_one(data: MammoDataModule, row: pd.Series) -> None:
    """Its pixels, or why there are none."""
    try:
        assert data.read(row).ndim in (2, 3)
    except DataError as error:
        said = str(error)
        assert said


def unsaid(name: str, frame: pd.DataFrame, truth: pd.DataFrame, broken: Broken, tables: dict[Path, bytes]) -> list[str]:
    """The rows whose label or patient is neither what it was nor what the broken file says."""
    table = broken.content is not None and broken.path in tables
    before = b"\n".join(tables.values())
    now = b"\n".join((tables | {broken.path: broken.content or b""}).values()) if table else before
    head = not table or (broken.content or b"").partition(b"\n")[0] == tables[broken.path].partition(b"\n")[0]
    wrong = []
    for _, row in frame[frame["image"].isin(truth.index)].iterrows():
        old = truth.loc[row["image"]]
        if row["path"] != old["path"]:  # a file that was renamed is another file
            continue
        said = (row["label"], row["patient"]) == (old["label"], old["patient"])
        if table:
            key = SAID[name].key(row)
            if not head or _lines(now, key) != _lines(before, key):
                said = any(_says(name, row, line) for line in _lines(now, key))
        elif broken.content and broken.path.name.endswith(f"{row['split']}_labels.npy"):
            code = np.load(io.BytesIO(broken.content)).ravel()[int(row["image"].rpartition("/")[2])]
            said |= row["patient"] == old["patient"] and row["label"] == int(code > 2)  # calcifications
        elif broken.content is not None and row["path"] == str(broken.path):  # a patient that its tags name
            said |= row["label"] == old["label"] and row["patient"].encode() in broken.content
        if not said:
            was = (old["label"], old["patient"])
            wrong.append(f"{row['image']}: {was} is now {(row['label'], row['patient'])}")
    return wrong


def _lines(text: bytes, key: str) -> list[str]:
    """The lines that hold a key, whatever the encoding and however a path is written."""
    found = []
    for encoding in ("utf-16",) if text[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8", "cp1252", "latin-1"):
        lines = re.split(r"[\r\n]+", text.decode(encoding, "replace"))
        found += [line for line in lines if key.lower() in re.sub(r"[/\\]+(\./)*", "/", line.lower())]
    return found


def _says(name: str, row: pd.Series, line: str) -> bool:
    rule = SAID[name]
    label = re.search(rule.words[row["label"]], line, re.IGNORECASE)
    return bool(label) and (not rule.patient or row["patient"] in line)


def run(name: str, tmp_path: Path, count: int) -> tuple[int, int]:
    """Open so many broken datasets; how many opened, and how many were refused."""
    root = tmp_path / "data"
    options = write(name, root)
    data = DATASETS.get(name.split()[0])(mlruns=tmp_path / "m", **options)
    truth = _checked(data.index()).set_index("image")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    tables = {path: path.read_bytes() for path in files if name in SAID and path.suffix in WRITTEN}
    keys = {SAID[name].key(row).encode() for _, row in truth.reset_index().iterrows()} if tables else set()
    tables = {path: content for path, content in tables.items() if any(key in content for key in keys)}
    assert files
    read = refused = 0
    for number, broken in enumerate(accidents(files, count)):
        whole = number % WHOLE == 0
        frame = opened(name, options, tmp_path / ("w" if whole else "m"), broken, whole=whole)
        if whole:
            shutil.rmtree(tmp_path / "w", ignore_errors=True)
        if frame is None:
            refused += 1
            continue
        read += 1
        wrong = unsaid(name, frame, truth, broken, tables)
        assert not wrong, f"{broken.what} of {broken.path} ({number}): {wrong[:3]}"
    again = _checked(DATASETS.get(name.split()[0])(mlruns=tmp_path / "m", **options).index()).set_index("image")
    pd.testing.assert_frame_equal(again, truth)
    return read, refused


NAMES = [*(name for name in DATASETS.names() if name != "synthetic"), ARRAYS]


@pytest.mark.parametrize("name", NAMES)
def test_a_few_broken_datasets_are_what_they_were_or_refused(name, tmp_path):
    read, refused = run(name, tmp_path, 25)
    assert read + refused == 25
    assert read


@pytest.mark.proof
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_two_thousand_broken_datasets_are_what_they_were_or_refused(name, tmp_path):
    read, refused = run(name, tmp_path, MUTANTS)
    assert read > MUTANTS / 100
    assert refused > MUTANTS / 100
