import json
import re
import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from served_models import PLATTS, fit_folder, images, save_model

from mammo_lightning.classifiers import weights
from mammo_lightning.errors import DataError, TrackingError
from mammo_lightning.evaluation.calibration import Platt
from mammo_lightning.evaluation.calibrators import fit_calibrator
from mammo_lightning.evaluation.combining import Combiner
from mammo_lightning.preprocessing.prepare import prepare
from mammo_lightning.tracking.files import tree_digest
from mammo_lightning.tracking.serving import Member, load_servable, pixel_codes

THREE = ("none", "gcn", "background")
STACKED = {"rule": "stacking", "weights": [0.7, 0.5, -0.2], "intercept": 0.1}


def fits(tmp_path: Path) -> list[Path]:
    return [fit_folder(tmp_path / f"f{seed}", seed, name) for seed, name in enumerate(THREE)]


def ensemble(tmp_path: Path, combiner: dict | None = None, **changes) -> Path:
    """Two members of one fit, and one of two that share nothing but their images."""
    one, two, three = fits(tmp_path)
    members = [Member("a", [one], PLATTS[:1]), Member("b", [two, three], PLATTS[1:]), Member("c", [three], PLATTS[:1])]
    return save_model(tmp_path / "model", tmp_path, members=members, combiner=combiner, **changes)


def calibrated(folder: Path, platt: dict, pixels: np.ndarray) -> np.ndarray:
    """One fit by itself, with its own preprocessing."""
    network = weights.load(folder)
    with torch.inference_mode():
        odds = network(torch.from_numpy(prepare(pixels, 65535.0, network.settings))).double()
    return Platt.from_dict(platt)(torch.sigmoid(odds).numpy())


def by_hand(tmp_path: Path, pixels: np.ndarray) -> np.ndarray:
    """What each member says, one after another."""
    one, two, three = fits(tmp_path)
    of_two = (calibrated(two, PLATTS[1], pixels) + calibrated(three, PLATTS[2], pixels)) / 2
    return np.stack([calibrated(one, PLATTS[0], pixels), of_two, calibrated(three, PLATTS[0], pixels)])


@pytest.mark.parametrize("combiner", [None, STACKED, {"rule": "majority", "weights": [1 / 3] * 3}])
def test_members_are_means_of_their_fits_and_the_rule_makes_one_score_of_them(tmp_path, combiner):
    servable = load_servable(ensemble(tmp_path, combiner))
    pixels = images(150)  # more than one batch
    members = servable.member_scores(pixels)
    np.testing.assert_allclose(members, by_hand(tmp_path, pixels), atol=1e-6)
    rule = Combiner.from_dict(combiner or {"rule": "mean", "weights": [1 / 3] * 3})
    np.testing.assert_allclose(servable(pixels), rule(members), atol=1e-12)
    assert 0 < np.ptp(servable(pixels))
    np.testing.assert_array_equal(servable(pixels[:4, 0]), servable(pixels[:4]))
    assert servable(pixels[:0]).shape == (0,)
    assert [member.name for member in servable.members] == ["a", "b", "c"]


def test_any_calibrator_travels(tmp_path):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 80), rng.random(80)
    (one, *_) = fits(tmp_path)
    for name in ("isotonic", "temperature"):
        calibrator = fit_calibrator(name, labels, scores)
        folder = save_model(tmp_path / name, tmp_path, members=[Member("a", [one], [calibrator.as_dict()])])
        pixels = images(20)
        raw = calibrated(one, PLATTS[0], pixels)  # slope 1, intercept 0
        np.testing.assert_allclose(load_servable(folder)(pixels), calibrator(raw), atol=1e-6)


def test_what_a_reader_should_know_travels(tmp_path):
    seen = pixel_codes(["00000000000000ff", "ffffffffffffffff", "00000000000000ff"])
    reading = {"dataset": "inbreast", "dicom": "whole", "size": 24}
    servable = load_servable(ensemble(tmp_path, reading=reading, trained_on=seen))
    assert servable.trained_on.tolist() == [255, 2**64 - 1]
    assert (servable.about.reading.dicom, servable.about.reading.size) == ("whole", 24)
    assert servable.manifest["rule"] == "spec0.80"
    assert servable.classes == ("benign", "malignant")
    assert servable.about.points == {"patch": 0.5}
    with pytest.raises(DataError, match="the model takes N x 1 x 24 x 24"):
        servable(images(2)[:, :, :10])


def test_a_manifest_of_before_there_were_members_still_loads(tmp_path):
    folder = save_model(tmp_path / "model", tmp_path)
    expected = load_servable(folder)(images(5))
    path = folder / "artifacts" / "servable" / "servable.json"
    manifest = json.loads(path.read_text())
    (member,) = manifest.pop("members")
    for name in ("combiner", "reading", "points"):
        manifest.pop(name)
    path.write_text(json.dumps({**manifest, "calibrators": member["calibrators"]}))
    old = load_servable(folder)
    np.testing.assert_array_equal(old(images(5)), expected)
    assert old.members[0].name == "made-1.final"
    assert old.about.points == {"patch": 0.5}
    assert not len(old.trained_on)


def test_mlflow_serves_native_pixels_without_unpickling(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow
    from mlflow.pyfunc import scoring_server

    moved = ensemble(tmp_path, STACKED).rename(tmp_path / "elsewhere")
    model = mlflow.pyfunc.load_model(str(moved))
    pixels = images(5)
    table = model.predict(pixels)
    assert list(table.columns) == ["p_benign", "p_malignant", "positive"]
    np.testing.assert_allclose(table["p_malignant"], load_servable(moved)(pixels), atol=1e-12)
    np.testing.assert_allclose(table["p_benign"] + table["p_malignant"], 1)
    assert table["positive"].tolist() == (table["p_malignant"] >= 0.5).tolist()
    for count in (1, 5):  # an image, and a batch
        posted = scoring_server.invocations(
            json.dumps({"inputs": pixels[:count].tolist()}),
            "application/json",
            model,
            model.metadata.get_input_schema(),
        )
        assert posted.status == 200
        answer = json.loads(posted.response)["predictions"]
        np.testing.assert_allclose([row["p_malignant"] for row in answer], table["p_malignant"][:count])


def test_pixels_that_say_nothing_are_refused(tmp_path):
    servable = load_servable(save_model(tmp_path / "model", tmp_path))
    pixels = images(70)
    pixels[66] = 513  # beyond the first batch
    with pytest.raises(DataError, match=r"^image 67 of 70 is constant \(513\); an image needs contrast"):
        servable(pixels)
    with pytest.raises(DataError, match=r"^'c.png' is constant \(513\)"):
        servable(pixels[64:68, 0], ["a.png", "b.png", "c.png", "d.png"])
    floats = images(3).astype(np.float32)
    floats[1, 0, 3, 3] = np.nan
    with pytest.raises(DataError, match="^image 2 of 3 has a pixel that is no finite number"):
        servable(floats)


def test_what_is_no_image_is_the_fault_of_who_asks(tmp_path):
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    model = mlflow.pyfunc.load_model(str(save_model(tmp_path / "model", tmp_path)))
    constant = images(3)
    constant[1] = 9
    scaled = images(2).astype(float)
    for pixels, expected in (
        (constant, "image 2 of 3 is constant (9); an image needs contrast. Leave it out"),
        (scaled / (scaled.max() + 1), "no pixel is above 1, and the model takes uint16 as it stands in the file, 0 to"),
        (scaled / scaled.max(), "no pixel is above 1, and the model takes uint16 as it stands in the file, 0 to 65535"),
    ):
        with pytest.raises(MlflowException, match=re.escape(expected)) as refused:
            scoring_server.invocations(
                json.dumps({"inputs": pixels.tolist()}), "application/json", model, model.metadata.get_input_schema()
            )
        assert refused.value.get_http_status_code() == 400
        answer = json.loads(refused.value.serialize_as_json())
        assert expected in answer["message"]
        assert "Traceback" not in str(answer)
        with pytest.raises(MlflowException, match=re.escape(expected)):
            model.predict(pixels.astype(np.uint16))


def test_no_path_of_this_machine_and_no_code_but_one_file_is_in_the_folder(tmp_path):
    folder = ensemble(tmp_path)
    text = (folder / "MLmodel").read_text()
    assert str(tmp_path) not in text
    assert str(Path(__file__).parents[2]) not in text
    assert [path.name for path in folder.rglob("*.py")] == ["served.py"]
    assert not list(folder.rglob("*.pkl"))


def test_saving_again_replaces_and_gives_the_same_content(tmp_path):
    folder = save_model(tmp_path / "model", tmp_path)
    first = tree_digest(folder)
    save_model(tmp_path / "model", tmp_path)
    assert tree_digest(folder) == first
    save_model(tmp_path / "model", tmp_path, threshold=0.6)
    assert tree_digest(folder) != first
    assert load_servable(folder).threshold == 0.6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit0", "fit1", "model"]


def test_what_is_no_ensemble_is_said(tmp_path):
    one = fit_folder(tmp_path / "one", 0)
    with pytest.raises(TrackingError, match="member 'a' has 1 fits and 2 calibrators"):
        save_model(tmp_path / "model", tmp_path, members=[Member("a", [one], PLATTS[:2])])
    with pytest.raises(TrackingError, match="no member to serve"):
        save_model(tmp_path / "model", tmp_path, members=[])
    with pytest.raises(DataError, match="no servable.json in"):
        load_servable(tmp_path)
    folder = save_model(tmp_path / "model", tmp_path, combiner={"rule": "mean", "weights": [0.5, 0.5]})
    with pytest.raises(DataError, match="weighs 2 members and names 1"):
        load_servable(folder)


def test_a_damaged_or_foreign_manifest_is_one_line(tmp_path):
    folder = save_model(tmp_path / "model", tmp_path) / "artifacts" / "servable"
    path = folder / "servable.json"
    good = path.read_bytes()
    manifest = json.loads(good)
    for name in ("classes", "threshold", "scale", "dtype", "shape", "members", "combiner"):
        path.write_text(json.dumps({key: value for key, value in manifest.items() if key != name}))
        with pytest.raises(DataError, match="servable.json' is damaged or of another program"):
            load_servable(folder)
        for value in (None, [], {}, "x", -1, 10**30, [[]], {"rule": "mean"}, float("nan")):
            path.write_text(json.dumps({**manifest, name: value}))
            if (name, value) in (("threshold", -1), ("threshold", 10**30), ("scale", 10**30)):
                continue  # a number, if a strange one
            with pytest.raises(DataError, match="servable.json' is damaged|cannot be read|has no known rule"):
                load_servable(folder)
    rng = np.random.default_rng(0)
    for text in (b"", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, *(good[:cut] for cut in range(1, len(good), 97))):
        path.write_bytes(text)
        with pytest.raises(DataError, match="servable.json' is damaged"):
            load_servable(folder)
    for _ in range(60):  # a byte that was written wrong is refused, or does not matter
        broken = bytearray(good)
        broken[rng.integers(len(broken))] = rng.integers(256)
        path.write_bytes(bytes(broken))
        with suppress(DataError):
            load_servable(folder)(images(1))


def test_damaged_weights_are_one_line(tmp_path):
    folder = save_model(tmp_path / "model", tmp_path) / "artifacts" / "servable" / "members" / "0"
    kept = {name: (folder / name).read_bytes() for name in ("model.safetensors", "config.json")}
    rng = np.random.default_rng(0)
    for name, data in kept.items():
        for cut in (0, 1, 8, 9, len(data) // 2, len(data) - 1):
            (folder / name).unlink()  # a second name of the fit's own file
            (folder / name).write_bytes(data[:cut])
            with pytest.raises(DataError, match="the (weights in|model at) '.*' (are|is) damaged"):
                load_servable(tmp_path / "model")
        for _ in range(20):
            broken = bytearray(data)
            broken[rng.integers(min(200, len(broken)))] = rng.integers(256)
            (folder / name).write_bytes(bytes(broken))
            with suppress(DataError):
                load_servable(tmp_path / "model")
        (folder / name).write_bytes(data)
    other = fit_folder(tmp_path / "other", 0, shape=(1, 30, 30))
    shutil.copytree(other, folder, dirs_exist_ok=True)
    with pytest.raises(DataError, match=r"take \(1, 30, 30\), and servable.json says \(1, 24, 24\)"):
        load_servable(tmp_path / "model")


def test_a_damaged_list_of_digests_is_one_line(tmp_path):
    path = save_model(tmp_path / "model", tmp_path) / "artifacts" / "servable" / "trained_on.npy"
    for content in (b"", b"x" * 300):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is no list of digests"):
            load_servable(tmp_path / "model")
    np.save(path, np.array([1.5]))
    with pytest.raises(DataError, match="is no list of digests"):
        load_servable(tmp_path / "model")


def test_weights_are_shared_with_the_fits_not_copied(tmp_path):
    folder = save_model(tmp_path / "model", tmp_path)
    for number in (0, 1):
        served = folder / "artifacts" / "servable" / "members" / str(number) / "model.safetensors"
        assert served.samefile(tmp_path / f"fit{number}" / "model.safetensors")
