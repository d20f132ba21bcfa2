"""What every registered dataset and classifier must do; a new file is picked up by itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import WRITERS, dataset
from optuna.distributions import BaseDistribution

from mammo_lightning.classifiers import weights
from mammo_lightning.datamodules.decoding import resized
from mammo_lightning.datamodules.folds import TEST, make_splits
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS, DATASETS, Registry
from mammo_lightning.space import make_space
from mammo_lightning.types import Level

#: datasets of a user's own images
OWN = ("folder", "table")


@pytest.mark.parametrize("name", DATASETS.names())
class TestDataset:
    def test_rows_pixels_and_groups_fit_together(self, name: str, tmp_path: Path) -> None:
        data = dataset(name, tmp_path)
        assert len(data.frame) == len(data.images)
        assert data.images.ndim == 4
        assert data.scale in (255.0, 65535.0, 1.0)
        assert len(data.classes) == 2
        assert set(data.frame["label"]) == {0, 1}
        assert data.frame["image"].is_unique
        for position in (0, len(data.frame) - 1):
            row = data._index[data._index["image"] == data.frame["image"].iloc[position]].iloc[0]
            array = data.read(row)
            planes = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
            assert np.array_equal(data.images[position], resized(planes, data.size))

    def test_splits_are_by_patient(self, name: str, tmp_path: Path) -> None:
        data = dataset(name, tmp_path)
        made = make_splits(data, folds=3)
        fold_of = data.frame.assign(fold=made.fold).groupby("patient")["fold"]
        assert (fold_of.nunique() == 1).all()
        assert made.folds == [0, 1, 2]
        assert made.digest == make_splits(data, folds=3).digest
        if "test" in set(data.frame["split"]):
            assert (made.fold == TEST).any()

    def test_the_same_content_is_the_same_dataset(self, name: str, tmp_path: Path) -> None:
        assert dataset(name, tmp_path).digest == dataset(name, tmp_path).digest
        assert dataset(name, tmp_path / "other", seed=1).digest != dataset(name, tmp_path).digest or name == "synthetic"

    def test_it_says_where_it_comes_from(self, name: str, tmp_path: Path) -> None:
        assert name in WRITERS, "add a writer: write_<name> in tests/fake_<name>.py"
        cls = DATASETS.get(name)
        assert len(cls.__doc__ or "") > 150
        if cls.synthetic:
            return
        options = WRITERS[name](tmp_path / "data") | {"root": tmp_path / "nowhere"}
        with pytest.raises(DataError, match=r"nowhere|not under") as refused:
            cls(mlruns=tmp_path / "mlruns", **options).prepare_data()
        assert "\n" not in str(refused.value)
        if name not in OWN:
            assert cls.origin.home in str(refused.value)
            assert cls.origin.licence in str(refused.value)
            assert cls.origin.citation

    def test_a_quick_look_is_smaller_and_never_of_the_test_part(self, name: str, tmp_path: Path) -> None:
        data = dataset(name, tmp_path)
        quick = DATASETS.get(name)(mlruns=tmp_path / "mlruns", limit=24, **WRITERS[name](tmp_path / "data"))
        quick.prepare_data()
        assert len(quick.frame) < len(data.frame)
        assert set(quick.frame["image"]) <= set(data.frame["image"])
        assert set(quick.frame["label"]) == {0, 1}
        assert "test" not in set(quick.frame["split"])
        assert (make_splits(quick, folds=2).fold != TEST).all()

    def test_columns_say_what_they_are_for(self, name: str, tmp_path: Path) -> None:
        data = dataset(name, tmp_path)
        frame = data.frame
        if name not in OWN and any("malignant" in word for word in (*data.classes, *data.targets)):
            assert set(frame["label_basis"]) == {"pathology"}, "malignant is said of pathology only"
        if "label_basis" in frame:
            assert set(frame["label_basis"]) <= {"pathology", "assessment", "annotation"}
        if "laterality" in frame:
            assert set(frame["laterality"]) <= {"L", "R", ""}
        if "spacing_mm" in frame:
            assert (frame["spacing_mm"].dropna() > 0).all()
        if data.targets:
            assert set(frame["target"]) <= set(data.targets)
            assert (frame.groupby("target")["label"].nunique() == 1).all()
        assert set(data.answers) <= set(frame.columns)
        assert data.levels[0] is Level.patch
        assert data.sampling == "exhaustive" or data.levels == [Level.patch]


@pytest.mark.parametrize("name", CLASSIFIERS.names())
class TestClassifier:
    @pytest.mark.parametrize("shape", [(1, 60, 60), (3, 64, 64), (1, 75, 61)])
    def test_one_logit_an_image(self, name: str, shape: tuple[int, int, int]) -> None:
        torch.manual_seed(0)
        network = CLASSIFIERS.get(name)(shape=shape, settings=make_space(CLASSIFIERS.get(name)).fixed).eval()
        logits = network(torch.rand(3, *shape))
        assert logits.shape == (3,)
        assert torch.isfinite(logits).all()
        assert network.embed(torch.rand(3, *shape)).ndim == 2
        assert isinstance(network.saliency_layer, torch.nn.Module)

    def test_its_settings_are_flat_plain_and_searched_by_optuna(self, name: str) -> None:
        cls = CLASSIFIERS.get(name)
        space = make_space(cls)
        json.dumps(space.fixed)
        assert all(isinstance(distribution, BaseDistribution) for distribution in space.search.values())
        assert set(cls.search_space) <= set(space.fixed)

    def test_it_comes_back_from_disk_as_it_was(self, name: str, tmp_path: Path) -> None:
        torch.manual_seed(1)
        shape = (1, 60, 60)
        network = CLASSIFIERS.get(name)(shape=shape, settings=make_space(CLASSIFIERS.get(name)).fixed).eval()
        network.mean.fill_(0.3)
        weights.save(network, tmp_path / "m", name=name)
        images = torch.rand(4, *shape)
        with torch.no_grad():
            assert torch.equal(network(images), weights.load(tmp_path / "m")(images))
        assert b"pickle" not in (tmp_path / "m" / "model.safetensors").read_bytes()[:64]

    def test_it_says_what_it_is(self, name: str) -> None:
        assert len(CLASSIFIERS.get(name).__doc__ or "") > 100


def test_a_name_is_given_once_and_an_unknown_one_lists_the_known() -> None:
    registry: Registry = Registry("classifier", "mammo_lightning.classifiers", ("base",))
    registry.register("one")(object)
    with pytest.raises(SettingsError, match="'one' is registered twice"):
        registry.register("one")(object)
    with pytest.raises(SettingsError, match="no dataset 'none'; known: cbis_ddsm, folder, idc"):
        DATASETS.get("none")
