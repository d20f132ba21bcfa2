import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mammo_lightning.classifiers import weights
from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.preprocessing.prepare import prepare
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.tracking.serving import load_servable, save_servable

PLATTS = [{"slope": 1.0, "intercept": 0.0}, {"slope": 2.0, "intercept": -1.0}]
SHAPE = (1, 24, 24)


def save(tmp_path: Path, **changes):
    members = []
    for number, preprocessing in enumerate(("none", "gcn")):
        torch.manual_seed(number)
        member = CLASSIFIERS.get("linear")(shape=SHAPE, settings={"preprocessing": preprocessing})
        torch.nn.init.normal_(member.network.get_submodule("output").weight, std=0.3)
        members.append(tmp_path / f"m{number}")
        weights.save(member, members[-1], name="linear")
    given = {
        "members": members,
        "calibrators": PLATTS,
        "classes": ["benign", "malignant"],
        "threshold": 0.5,
        "scale": 65535.0,
        "dtype": "uint16",
        "shape": SHAPE,
        "example": pixels(2),
        "extra": {"rule": "spec0.80"},
    }
    return save_servable(tmp_path / "model", **(given | changes)), members


def pixels(count: int):
    return np.random.default_rng(0).integers(0, 65536, (count, *SHAPE)).astype(np.uint16)


def expected(members, images):
    """The mean of the calibrated members, one after another, each with its own preprocessing."""
    scores = []
    for folder, platt in zip(members, PLATTS, strict=True):
        member = weights.load(folder)
        with torch.inference_mode():
            logits = member(torch.from_numpy(prepare(images, 65535.0, member.settings))).double()
        scores.append(Platt.from_dict(platt)(torch.sigmoid(logits).numpy()))
    return np.mean(scores, axis=0)


def test_the_ensemble_is_the_mean_of_its_calibrated_members(tmp_path):
    folder, members = save(tmp_path)
    servable = load_servable(folder)
    images = pixels(300)  # more than one batch
    np.testing.assert_allclose(servable(images), expected(members, images), atol=1e-6)
    np.testing.assert_array_equal(servable(images[:4, 0]), servable(images[:4]))
    assert servable.classes == ("benign", "malignant")
    assert servable.manifest["rule"] == "spec0.80"
    with pytest.raises(DataError, match="the model takes N x 1 x 24 x 24"):
        servable(images[:, :, :10])


def test_mlflow_serves_native_pixels_without_unpickling(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow
    from mlflow.pyfunc import scoring_server

    folder, members = save(tmp_path)
    moved = folder.rename(tmp_path / "elsewhere")
    model = mlflow.pyfunc.load_model(str(moved))
    images = pixels(5)
    table = model.predict(images)
    assert list(table.columns) == ["p_benign", "p_malignant", "positive"]
    np.testing.assert_allclose(table["p_malignant"], expected(members, images), atol=1e-6)
    np.testing.assert_allclose(table["p_benign"] + table["p_malignant"], 1)
    assert table["positive"].tolist() == (table["p_malignant"] >= 0.5).tolist()
    posted = scoring_server.invocations(
        json.dumps({"inputs": images.tolist()}), "application/json", model, model.metadata.get_input_schema()
    )
    assert posted.status == 200
    answer = json.loads(posted.response)["predictions"]
    np.testing.assert_allclose([row["p_malignant"] for row in answer], table["p_malignant"])


def test_no_path_of_this_machine_and_no_code_but_one_file_is_in_the_folder(tmp_path):
    folder, _ = save(tmp_path)
    text = (folder / "MLmodel").read_text()
    assert str(tmp_path) not in text
    assert str(Path(__file__).parents[2]) not in text
    assert [path.name for path in folder.rglob("*.py")] == ["served.py"]
    assert not list(folder.rglob("*.pkl"))


def test_saving_again_replaces_and_gives_the_same_content(tmp_path):
    from mammo_lightning.tracking.files import tree_digest

    folder, _ = save(tmp_path)
    first = tree_digest(folder)
    save(tmp_path)
    assert tree_digest(folder) == first
    save(tmp_path, threshold=0.6)
    assert tree_digest(folder) != first
    assert load_servable(folder).threshold == 0.6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m0", "m1", "model"]


def test_what_is_no_ensemble_is_said(tmp_path):
    with pytest.raises(TrackingError, match="2 members and 1 calibrators"):
        save(tmp_path, calibrators=PLATTS[:1])
    with pytest.raises(DataError, match=r"no servable.json in"):
        load_servable(tmp_path)


def test_weights_are_shared_with_the_fits_not_copied(tmp_path):
    folder, members = save(tmp_path)
    for number, member in enumerate(members):
        served = folder / "artifacts" / "servable" / "members" / str(number) / "model.safetensors"
        assert served.samefile(member / "model.safetensors")
