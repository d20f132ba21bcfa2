import pytest
import torch
from torch import nn

from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS


def hyper(shape=(1, 60, 60), **settings):
    return CLASSIFIERS.get("hyper")(shape=shape, settings=settings)


COUNTS = {
    (10, 1): 511_573,
    (10, 2): 544_341,
    (10, 3): 555_263,
    (15, 1): 773_853,
    (15, 2): 806_621,
    (15, 3): 817_543,
    (15, 5): 826_328,
    (20, 1): 1_040_633,
    (20, 2): 1_073_401,
    (20, 3): 1_084_323,
    (25, 1): 1_311_913,
    (25, 5): 1_364_388,
    (30, 1): 1_587_693,
    (30, 2): 1_620_461,
    (30, 3): 1_631_383,
}


@pytest.mark.parametrize(("init", "depth"), COUNTS)
def test_parameter_counts_of_the_study(init, depth):
    classifier = hyper(init=init, depth=depth)
    assert classifier.parameter_count() == COUNTS[init, depth]
    running = [b for n, b in classifier.network.named_buffers() if n.endswith(("running_mean", "running_var"))]
    assert sum(buffer.numel() for buffer in running) == 14 * init


@pytest.mark.parametrize("shape", [(1, 60, 60), (3, 64, 64), (1, 150, 150), (3, 61, 47), (1, 8, 9)])
def test_one_logit_an_image_of_any_size(shape):
    classifier = hyper(shape).eval()
    images = torch.rand(4, *shape)
    logits = classifier(images)
    assert logits.shape == (4,)
    assert logits.std() > 0
    assert classifier.embed(images).shape == (4, 256)
    torch.testing.assert_close(classifier.network.output(classifier.embed(images)).squeeze(-1), logits)
    torch.testing.assert_close(classifier(images.to(memory_format=torch.channels_last)), logits, atol=1e-5, rtol=1e-4)


def test_layers_of_the_study():
    classifier = hyper(init=10, depth=5, dropout=0.05)
    kinds = [type(layer).__name__ for layer in classifier.network][:5]
    assert kinds == ["Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d", "Dropout"]
    dense = [layer.out_features for layer in classifier.network if isinstance(layer, nn.Linear)]
    assert dense == [256, 128, 85, 64, 51, 1]
    drops = [layer.p for layer in classifier.network if isinstance(layer, nn.Dropout)]
    assert drops == pytest.approx([0.05, 0.05, 0.05, 0.15])
    norms = [layer for layer in classifier.network if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.01, 1e-3)}
    maps = []
    classifier.saliency_layer.register_forward_hook(lambda module, given, output: maps.append(output))
    classifier(torch.rand(2, 1, 60, 60))
    assert maps[0].shape == (2, 40, 15, 15)
    assert maps[0].min() == 0


def test_weights_start_glorot_normal():
    network = hyper(init=30).network
    weight = network.get_submodule("dense_1").weight
    assert weight.std().item() == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.01)
    assert weight.abs().max() > 3.5 * weight.std()  # a uniform draw ends at 1.73
    assert all((p == 0).all() for n, p in network.named_parameters() if n.endswith("bias"))


def test_images_are_standardised_first():
    classifier = hyper().eval()
    images = torch.rand(3, 1, 60, 60)
    before = classifier(images)
    classifier.mean.fill_(5)
    classifier.std.fill_(2)
    torch.testing.assert_close(classifier(images * 2 + 5), before)


def test_a_step_of_training_lowers_the_loss():
    torch.manual_seed(0)
    settings = {"learning_rate": 1e-3, "optimizer": "adam", "beta2": 0.999, "schedule": "constant"}
    classifier = hyper((1, 16, 16), dropout=0.0, **settings)
    labels = (torch.arange(16) % 2).float()
    images = torch.rand(16, 1, 16, 16) + labels[:, None, None, None]
    optimizer = classifier.configure_optimizers()
    losses = []
    for _ in range(15):
        loss = classifier.training_step((images, labels), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": 0}, "init is 0; hyper needs a whole number"),
        ({"init": 2.5}, "init is 2.5"),
        ({"norm_momentum": 0}, "norm_momentum is 0; hyper needs 0 < norm_momentum <= 1"),
        ({"depth": 6}, "depth is 6; hyper has 1 to 5"),
        ({"dropout": 0.95}, "dropout is 0.95; hyper needs 0 <= dropout < 0.9"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(SettingsError, match=message):
        hyper(**settings)


def test_too_small_an_image():
    with pytest.raises(DataError, match="images are 7x60; hyper needs 8x8 or more"):
        hyper((1, 7, 60))


def test_search_space_is_that_of_the_study():
    space = CLASSIFIERS.get("hyper").search_space
    assert [space[name].choices for name in ("init", "dropout", "depth")] == [(10, 20, 30), (0.0, 0.05), (1, 2, 3)]
