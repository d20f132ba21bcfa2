import pytest
import torch
from torch import nn

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS


def scratch(shape=(1, 150, 150), **settings):
    return CLASSIFIERS.get("scratch")(shape=shape, settings=settings)


def test_parameter_counts_of_the_study():
    classifier = scratch()
    layers = [layer for layer in classifier.network if isinstance(layer, nn.Conv2d | nn.Linear)]
    counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert counts == [320, 18_496, 73_856, 147_584, 3_211_776, 513]
    assert classifier.parameter_count() == 3_452_545


def test_feature_map_sizes_of_the_study():
    classifier, sizes = scratch(), []
    for layer in classifier.network:
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda module, given, output: sizes.append(output.shape[-1]))
    classifier(torch.rand(1, 1, 150, 150))
    assert sizes == [148, 74, 72, 36, 34, 17, 15, 7]


@pytest.mark.parametrize("shape", [(1, 60, 60), (3, 64, 64), (1, 151, 77), (1, 46, 46)])
def test_one_logit_an_image_of_any_size(shape):
    classifier = scratch(shape).eval()
    images = torch.rand(3, *shape)
    logits = classifier(images)
    assert logits.shape == (3,)
    assert logits.std() > 0
    assert classifier.embed(images).shape == (3, 512)
    torch.testing.assert_close(classifier.network.output(classifier.embed(images)).squeeze(-1), logits)


def test_saliency_layer_is_the_fourth_relu():
    classifier, maps = scratch(last_filters=256), []
    classifier.saliency_layer.register_forward_hook(lambda module, given, output: maps.append(output))
    classifier(torch.rand(2, 1, 150, 150))
    assert maps[0].shape == (2, 256, 15, 15)


def test_penalty_is_on_the_dense_kernel_alone():
    classifier = scratch((1, 46, 46), l2=0.001)
    expected = 0.001 * classifier.network.dense.weight.square().sum()
    torch.testing.assert_close(classifier.penalty(), expected)
    logits, labels = torch.zeros(4), torch.ones(4)
    plain = scratch((1, 46, 46))
    assert plain.penalty() == 0
    torch.testing.assert_close(classifier.loss(logits, labels), plain.loss(logits, labels) + expected)
    classifier.penalty().backward()
    assert [name for name, p in classifier.network.named_parameters() if p.grad is not None] == ["dense.weight"]


def test_weights_start_glorot_uniform():
    weight = scratch((1, 60, 60)).network.get_submodule("dense").weight
    limit = (6 / sum(weight.shape)) ** 0.5
    assert 0.99 * limit < weight.abs().max() <= limit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "dropout is 1.0; scratch needs 0 <= dropout < 1"),
        ({"l2": -1}, "l2 is -1; scratch needs 0 or more"),
        ({"last_filters": 0}, "last_filters is 0"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        scratch(**settings)


def test_too_small_an_image():
    with pytest.raises(DataError, match="images are 45x60; scratch needs 46x46 or more"):
        scratch((1, 45, 60))
