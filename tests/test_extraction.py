import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_cbis_ddsm import write_cbis_arrays
from fakes import WRITERS, dataset

from mammo_lightning.datamodules.base import MammoDataModule
from mammo_lightning.datamodules.table import Table
from mammo_lightning.errors import DataError
from mammo_lightning.extraction import extract
from mammo_lightning.progress import Progress
from mammo_lightning.registry import DATASETS


def read_back(table: Path, tmp_path: Path) -> Table:
    data = Table(table=table, mlruns=tmp_path / "mlruns")
    data.prepare_data()
    return data


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_what_is_extracted_reads_back_identically(name: str, tmp_path: Path) -> None:
    data = dataset(name, tmp_path)
    again = read_back(extract(data, tmp_path / "out", Progress()), tmp_path)
    assert np.array_equal(data.images, again.images)
    assert (data.scale, data.classes, data.sampling, data.official) == (
        again.scale,
        again.classes,
        again.sampling,
        again.official,
    )
    assert data.levels == again.levels
    assert data.sides == again.sides
    kept = [column for column in data.frame if column not in ("path", "content", "box", "flags")]
    told = [column for column in kept if data.frame[column].astype(str).ne("").any()]
    for column in told:
        if pd.api.types.is_numeric_dtype(data.frame[column]):
            np.testing.assert_array_equal(data.frame[column].to_numpy(float), again.frame[column].to_numpy(float))
        else:
            filled = data.frame[column].astype(object).where(data.frame[column].notna(), "")
            assert filled.tolist() == again.frame[column].tolist(), column


@pytest.mark.parametrize("options", [{"task": "five_class"}, {"pairs": True}, {"task": "benign_malignant"}])
def test_finer_classes_pairs_and_pathology_read_back(options: dict[str, object], tmp_path: Path) -> None:
    root = write_cbis_arrays(tmp_path / "arrays")["root"]
    data = DATASETS.get("cbis_ddsm")(root=root, mlruns=tmp_path / "mlruns", **options)
    data.prepare_data()
    again = read_back(extract(data, tmp_path / "out", Progress()), tmp_path)
    assert np.array_equal(data.images, again.images)
    assert data.classes == again.classes
    assert data.targets == again.targets
    assert data.sides == again.sides
    assert bool(data.targets) == (options.get("task") == "five_class")
    if data.targets:
        assert data.frame["target"].tolist() == again.frame["target"].tolist()


def test_generated_images_stay_marked_and_a_hold_out_keeps_its_share(tmp_path: Path) -> None:
    data = dataset("synthetic", tmp_path)
    data.holdout_share = 1 / 3
    again = read_back(extract(data, tmp_path / "out", Progress()), tmp_path)
    assert again.synthetic
    assert again.holdout_share == 1 / 3
    assert again.answers == data.answers


def folder_of(data: MammoDataModule, tmp_path: Path) -> Path:
    return extract(data, tmp_path / "out", Progress()).parent


class Stopping(Progress):
    """Ctrl-C after so many images."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def loop(self, items, what, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if number == self.after:
                raise KeyboardInterrupt("stopped here")
            yield item


def test_an_interrupted_extraction_goes_on_and_has_no_table_before(tmp_path: Path) -> None:
    data, out = dataset("microcalc", tmp_path), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt, match="stopped here"):
        extract(data, out, Stopping(20))
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/*.png")}
    assert len(written) == 20
    assert not (out / "images.csv").exists()
    extract(data, out, Progress())
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert np.array_equal(read_back(out / "images.csv", tmp_path).images, data.images)


def test_a_folder_with_anything_else_is_refused(tmp_path: Path) -> None:
    data = dataset("folder", tmp_path)
    folder = folder_of(data, tmp_path)
    other = dataset("microcalc", tmp_path / "other")
    with pytest.raises(DataError, match="holds patches of 'folder'.*pass an empty folder"):
        extract(other, folder, Progress())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not touch")
    with pytest.raises(DataError, match="is not empty.*pass an empty folder"):
        extract(other, tmp_path / "mine", Progress())
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        extract(data, folder, Progress())


def test_neither_names_nor_places_say_the_class(tmp_path: Path) -> None:
    data = dataset("microcalc", tmp_path)
    folder = folder_of(data, tmp_path)
    table = pd.read_csv(folder / "images.csv")
    assert not table["path"].str.contains("normal|cluster").any()
    ranks = table["path"].rank().corr(table["label"].eq("cluster").astype(float))
    assert abs(ranks) < 0.4
    about = json.loads((folder / "dataset.json").read_text())
    assert about["classes"] == ["normal", "cluster"]
    assert about["digest"] == data.digest
