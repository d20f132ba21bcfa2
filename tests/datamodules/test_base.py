import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fakes import dataset, patch, write_folder

from mammo_lightning.datamodules.base import MammoDataModule, merged_groups
from mammo_lightning.datamodules.folder import Folder
from mammo_lightning.errors import DataError
from mammo_lightning.types import digest


class Listed(MammoDataModule):
    """A dataset of given rows and arrays."""

    name = "listed"

    def __init__(self, rows: pd.DataFrame, arrays: dict[str, np.ndarray], **base: Any) -> None:
        super().__init__(**base)
        self.rows, self.arrays, self.reads = rows, arrays, 0

    def index(self) -> pd.DataFrame:
        return self.rows

    def read(self, row: pd.Series) -> np.ndarray:
        self.reads += 1
        return self.arrays[row["image"]]

    def contents(self, frame: pd.DataFrame) -> list[str]:
        return [digest(self.arrays[image].tobytes()) for image in frame["image"]]


def rows(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"image": ["a", "b", "c"], "label": [0, 1, 1], "patient": ["p", "q", "r"], **columns})


def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: patch(rng, 0, 16) for name in "abc"}


def test_a_second_start_does_not_decode_again(tmp_path: Path) -> None:
    first = Listed(rows(), arrays(), mlruns=tmp_path)
    first.prepare_data()
    second = Listed(rows(), arrays(), mlruns=tmp_path)
    second.prepare_data()
    assert (first.reads, second.reads) == (3, 0)
    assert np.array_equal(first.images, second.images)
    assert first.digest == second.digest
    assert second.images.shape == (3, 1, 16, 16)


def test_a_changed_index_or_content_has_another_digest(tmp_path: Path) -> None:
    first = Listed(rows(), arrays(), mlruns=tmp_path)
    relabelled = Listed(rows().assign(label=[1, 1, 0]), arrays(), mlruns=tmp_path)
    for data in (first, relabelled):
        data.prepare_data()
    assert first.digest != relabelled.digest


@pytest.mark.parametrize("damage", ["truncate", "remove"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    first = Listed(rows(), arrays(), mlruns=tmp_path)
    first.prepare_data()
    expected = np.array(first.images)
    file = next(tmp_path.glob("cache/listed-*/images.npy"))
    if damage == "truncate":
        file.write_bytes(file.read_bytes()[:200])
    else:
        (file.parent / "meta.json").unlink()
    again = Listed(rows(), arrays(), mlruns=tmp_path)
    again.prepare_data()
    assert again.reads == 3
    assert np.array_equal(again.images, expected)


def _open(root: Path, mlruns: Path, barrier: Any, queue: Any) -> None:
    barrier.wait()
    data = Folder(root=root, mlruns=mlruns, patient_from=r"(p\d+)_")
    data.prepare_data()
    queue.put((data.digest, int(np.asarray(data.images).sum())))


def test_two_processes_starting_together_get_the_same_cache(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", patients=8)
    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(2), context.Queue()
    workers = [
        context.Process(target=_open, args=(tmp_path / "data", tmp_path / "mlruns", barrier, queue)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    results = {queue.get(timeout=120) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(results) == 1
    assert not list((tmp_path / "mlruns" / "cache").glob("*.part"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"label": [1, 1, 1]}, "all 3 images are positive"),
        ({"image": ["a", "a", "b"]}, "listed twice"),
        ({"patient": ["p", "", "r"]}, "has no patient"),
        ({"split": ["train", "dev", ""]}, "split 'dev'"),
        ({"fold": [0, -3, 1]}, "fold '-3' of image 'b' is not a whole number of 0 or more"),
        ({"fold": [0, 0.5, 1]}, "fold '0.5' of image 'b'"),
        ({"fold": [0, None, 1]}, "fold 'nan' of image 'b'"),
        ({"fold": [0, "x", 1]}, "fold 'x' of image 'b'"),
        ({"p_noise": [1, 2, 3]}, "column 'p_noise' has a name that is used for results"),
        ({"group": [1, 2, 3]}, "column 'group' has a name"),
    ],
)
def test_a_bad_index_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Listed(rows(**change), arrays(), mlruns=tmp_path).prepare_data()


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((16, 16), np.uint8), "constant"),
        (np.arange(256, dtype=np.uint16).reshape(16, 16), "several depths"),
        (np.arange(400, dtype=np.uint8).reshape(20, 20) % 250, "several sizes.*--size"),
        (np.arange(768, dtype=np.uint8).reshape(16, 16, 3) % 251, "several kinds: grey"),
    ],
)
def test_images_that_do_not_belong_together_are_refused(tmp_path: Path, array: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        Listed(rows(), {**arrays(), "b": array}, mlruns=tmp_path).prepare_data()
    assert not list(tmp_path.glob("cache/*/images.npy"))


def test_sizes_are_brought_to_one_on_request(tmp_path: Path) -> None:
    data = Listed(
        rows(),
        {**arrays(), "b": np.arange(400).reshape(20, 20).astype(np.uint16).astype(np.uint8)},
        mlruns=tmp_path,
        size=12,
    )
    data.prepare_data()
    assert data.shape == (1, 12, 12)


def test_bad_images_are_left_out_on_request_and_counted(tmp_path: Path) -> None:
    table = pd.concat([rows(), rows(image=list("def"))], ignore_index=True)
    pixels = {**arrays(), **dict(zip("def", arrays().values(), strict=True)), "e": np.zeros((16, 16), np.uint8)}
    data = Listed(table, pixels, mlruns=tmp_path, lenient=True)
    data.prepare_data()
    assert [name for name, _ in data.unreadable] == ["e"]
    assert len(data.frame) == len(data.images) == 5


def test_identical_images_merge_their_patients(tmp_path: Path) -> None:
    pixels = arrays()
    pixels["c"] = pixels["a"]
    data = Listed(rows(), pixels, mlruns=tmp_path)
    data.prepare_data()
    assert data.frame.set_index("image")["group"].to_dict() == {"a": "p", "b": "q", "c": "p"}


def test_merging_is_transitive() -> None:
    frame = pd.DataFrame({"patient": list("abcbd"), "pixels": ["1", "1", "2", "2", "3"]})
    assert merged_groups(frame) == ["a", "a", "a", "a", "d"]


def test_levels_above_patch_need_exhaustive_patches(tmp_path: Path) -> None:
    assert [str(level) for level in dataset("folder", tmp_path).levels] == ["patch"]
    assert len(dataset("synthetic", tmp_path).levels) == 3


def test_the_source_stays_what_it_is_under_other_names_labels_and_sizes(tmp_path: Path) -> None:
    first = Listed(rows(), arrays(), mlruns=tmp_path)
    resized = Listed(rows(density=["A", "B", "C"], label=[1, 0, 0]), arrays(), mlruns=tmp_path, size=8)
    renamed = Listed(rows(image=["x", "y", "z"]), dict(zip("xyz", arrays().values(), strict=True)), mlruns=tmp_path)
    other = Listed(rows(), {**arrays(), "a": patch(np.random.default_rng(9), 0, 16)}, mlruns=tmp_path)
    for data in (first, resized, renamed, other):
        data.prepare_data()
    assert first.source == resized.source == renamed.source != other.source
    assert len({data.digest for data in (first, resized, renamed, other)}) == 4


@pytest.mark.parametrize("basis", ["assessment", "annotation"])
def test_malignant_is_said_of_pathology_only(tmp_path: Path, basis: str) -> None:
    data = Listed(rows(label_basis=basis), arrays(), mlruns=tmp_path)
    data.classes = ("benign", "malignant")
    with pytest.raises(DataError, match=rf"image 'b' is called 'malignant' and its label rests on {basis} \(2 such"):
        data.prepare_data()
    for right in ("pathology", ""):
        data = Listed(rows(label_basis=right), arrays(), mlruns=tmp_path / right)
        data.classes = ("benign", "malignant")
        data.prepare_data()


def test_finer_classes_have_the_sides_of_the_whole_dataset_in_a_quick_look_too(tmp_path: Path) -> None:
    frame = rows(target=["x", "y", "z"])
    whole = Listed(frame, arrays(), mlruns=tmp_path)
    whole.targets = ("x", "y", "z")
    whole.prepare_data()
    few = Listed(frame, arrays(), mlruns=tmp_path, limit=2)
    few.targets = ("x", "y", "z")
    few.prepare_data()
    assert len(few.frame) == 2
    assert few.sides == whole.sides == (0, 1, 1)
    strange = Listed(frame, arrays(), mlruns=tmp_path)
    strange.targets = ("x", "y")
    with pytest.raises(DataError, match="target 'z' is not known; known: x, y"):
        strange.prepare_data()


def test_what_changes_while_its_name_stays_is_decoded_anew(tmp_path: Path) -> None:
    class Versioned(Listed):
        """Named by image alone, as by a UID."""

        version = "1"

        def contents(self, frame: pd.DataFrame) -> list[str]:
            return frame["image"].tolist()

        def versions(self, frame: pd.DataFrame) -> list[str]:
            return [self.version] * len(frame)

    first = Versioned(rows(), arrays(), mlruns=tmp_path)
    first.prepare_data()
    second = Versioned(rows(), {name: array // 2 for name, array in arrays().items()}, mlruns=tmp_path)
    second.version = "2"
    second.prepare_data()
    assert second.reads == 3
    assert first.source == second.source
    assert first.digest != second.digest
