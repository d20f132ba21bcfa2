"""Finer classes: an output for each, and one logit of the positive ones together."""

from pathlib import Path

import pytest
import torch

from mammo_lightning.classifiers import weights
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import make_space

SHAPE, SIDES = (1, 60, 60), (0, 0, 1, 0, 1)


def network(name: str):
    torch.manual_seed(0)
    return CLASSIFIERS.get(name)(shape=SHAPE, settings=make_space(CLASSIFIERS.get(name)).fixed, sides=SIDES).eval()


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_the_logit_is_the_odds_of_the_positive_classes(name: str, tmp_path: Path) -> None:
    classifier, images = network(name), torch.rand(4, *SHAPE)
    shares = classifier.shares(images)
    assert shares.shape == (4, 5)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    torch.testing.assert_close(torch.sigmoid(classifier(images)), shares[:, [2, 4]].sum(1))
    weights.save(classifier, tmp_path / "m", name=name)
    assert torch.equal(weights.load(tmp_path / "m")(images), classifier(images))


def test_class_weights_go_by_the_side_of_a_class() -> None:
    classifier = network("hyper")
    raw, labels = torch.randn(6, 5), torch.tensor([0.0, 1, 2, 3, 4, 2])
    plain = torch.nn.functional.cross_entropy(raw, labels.long(), reduction="none")
    torch.testing.assert_close(classifier.loss(raw, labels), plain.mean())
    classifier.pos_weights = (0.5, 2.0)
    side = torch.tensor([0.5, 0.5, 2, 0.5, 2, 2])
    torch.testing.assert_close(classifier.loss(raw, labels), (plain * side).mean())


def test_linear_solves_all_classes_and_never_expects_one_it_has_not_seen() -> None:
    torch.manual_seed(0)
    classifier = network("linear")
    images = torch.rand(100, *SHAPE) * 0.1
    labels = torch.arange(100) % 4
    images += labels[:, None, None, None] / 4.0
    classifier.solve_features(classifier.features(images), labels.float(), torch.ones(100))
    shares = classifier.shares(images)
    assert (shares.argmax(1) == labels).float().mean() > 0.95
    assert shares[:, 4].max() < 1e-6
    torch.testing.assert_close(classifier.positive(classifier.logits(classifier.features(images))), classifier(images))
    two = network("linear")
    two.solve_features(two.features(images), (labels % 2 * 2).float(), torch.ones(100))
    assert set(two.shares(images).argmax(1).tolist()) == {0, 2}
