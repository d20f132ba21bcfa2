import numpy as np
import pytest
import pywt
import torch
from scipy.stats import kurtosis, skew

from mammo_lightning.classifiers.weights import load, save
from mammo_lightning.errors import DataError, SettingsError
from mammo_lightning.registry import CLASSIFIERS


def linear(shape=(1, 60, 60), **settings):
    return CLASSIFIERS.get("linear")(shape=shape, settings=settings)


def solve(classifier, images, labels, weights):
    classifier.solve_features(classifier.features(images), labels, weights)


@pytest.fixture
def specks():
    """Noise, and noise with a few bright pixels: 60 images, every second one positive."""
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.05 * torch.randn(60, 1, 32, 32, generator=generator)
    labels = (torch.arange(60) % 2).float()
    for image in images[1::2]:
        image[0, torch.randint(32, (8,), generator=generator), torch.randint(32, (8,), generator=generator)] += 0.4
    return images, labels


@pytest.mark.parametrize("size", [(60, 60), (33, 20), (5, 7), (2, 3)])
def test_details_equal_those_of_pywavelets(size):
    planes = np.random.default_rng(0).random((3, *size)).astype(np.float32)
    statistics = linear().network.get_submodule("statistics")
    details = statistics.details(torch.from_numpy(planes))
    approximation = planes.astype(float)
    for bands in details:
        approximation, expected = pywt.dwt2(approximation, "sym3", mode="symmetric", axes=(-2, -1))
        np.testing.assert_allclose(bands.numpy(), np.stack(expected, axis=1), atol=1e-5)


def test_features_equal_those_of_scipy_and_pywavelets():
    image = np.random.default_rng(1).random((60, 60)).astype(np.float32) ** 2
    features = linear().features(torch.from_numpy(image)[None, None])[0].numpy()
    assert features[:6] == pytest.approx(
        [image.mean(), image.std(), image.min(), image.max(), skew(image.ravel()), kurtosis(image.ravel())], abs=1e-4
    )
    quantiles = np.quantile(image, [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
    assert features[6:13] == pytest.approx(quantiles, abs=2e-3)
    finest = np.stack(pywt.dwt2(image.astype(float), "sym3", mode="symmetric")[1]).ravel()
    size = np.abs(finest)
    expected = [finest.std(), size.mean(), size.max(), np.sort(size)[-round(0.01 * size.size)], kurtosis(finest) + 3]
    assert features[13:18] == pytest.approx(np.log(expected), abs=1e-3)


@pytest.mark.parametrize(("name", "count"), [("all", 28), ("intensity", 13), ("wavelet", 15)])
@pytest.mark.parametrize("shape", [(1, 60, 60), (3, 64, 64), (1, 61, 35)])
def test_number_of_features_and_logits(name, count, shape):
    classifier = linear(shape, features=name).eval()
    images = torch.rand(5, *shape)
    features = classifier.features(images)
    assert features.shape == (5, count * shape[0])
    assert classifier.parameter_count() == count * shape[0] + 1
    assert classifier.embed(images).shape == features.shape
    assert classifier(images).shape == (5,)
    assert classifier.saliency_layer is classifier.network.output
    for channel in range(shape[0]):  # each channel has its own block
        alone = linear((1, *shape[1:]), features=name).features(images[:, channel : channel + 1])
        torch.testing.assert_close(features[:, channel * count : (channel + 1) * count], alone)


def test_solving_learns_and_forward_agrees_with_cached_features(specks, tmp_path):
    images, labels = specks
    classifier = linear((1, 32, 32))
    classifier.mean.fill_(3)  # statistics of pixels are not used: features are standardised instead
    classifier.std.fill_(9)
    solve(classifier, images[:40], labels[:40], torch.ones(40))
    logits = classifier(images)
    assert ((logits[40:] > 0) == (labels[40:] > 0.5)).float().mean() > 0.9
    torch.testing.assert_close(classifier.positive(classifier.logits(classifier.features(images))), logits)
    embedded = classifier.embed(images[:40])
    torch.testing.assert_close(embedded.mean(dim=0), torch.zeros(28), atol=1e-4, rtol=0)
    torch.testing.assert_close(embedded.std(dim=0, correction=0), torch.ones(28), atol=1e-4, rtol=0)
    save(classifier, tmp_path, name="linear")
    torch.testing.assert_close(load(tmp_path)(images), logits)


def test_solving_does_not_look_at_other_rows_and_can_be_repeated(specks):
    images, labels = specks
    one, two = linear((1, 32, 32)), linear((1, 32, 32))
    solve(two, images[20:], labels[20:], torch.ones(40))
    for classifier in (one, two):
        solve(classifier, images[:40], labels[:40], torch.ones(40))
    torch.testing.assert_close(one(images), two(images), atol=1e-4, rtol=1e-4)


def test_weights_and_regularisation_count(specks):
    images, labels = specks
    labels = labels.clone()
    labels[:10] = 1 - labels[:10]  # errors to argue about
    plain, heavy, strong = linear((1, 32, 32)), linear((1, 32, 32)), linear((1, 32, 32), regularisation=1e-3)
    solve(plain, images, labels, torch.ones(60))
    solve(heavy, images, labels, torch.where(labels > 0.5, 5.0, 1.0))
    solve(strong, images, labels, torch.ones(60))
    assert heavy(images).mean() > plain(images).mean() + 0.5
    assert strong.network.output.weight.norm() < 0.2 * plain.network.output.weight.norm()


def test_flat_images_and_features_without_spread_stay_finite():
    images = torch.full((6, 1, 20, 20), 0.3)
    images[::2] += torch.rand(3, 1, 20, 20) * 0.1
    classifier = linear((1, 20, 20))
    solve(classifier, images[1::2].repeat(2, 1, 1, 1), torch.tensor([0.0, 1, 0, 1, 0, 1]), torch.ones(6))
    assert torch.isfinite(classifier(images)).all()


def test_refusals(specks):
    images, _ = specks
    with pytest.raises(SettingsError, match="no features 'deep'; known: all, intensity, wavelet"):
        linear(features="deep")
    with pytest.raises(SettingsError, match="regularisation is 0; linear needs a number above 0"):
        linear(regularisation=0)
    with pytest.raises(DataError, match="all 60 training labels are 1; linear needs both classes"):
        solve(linear((1, 32, 32)), images, torch.ones(60), torch.ones(60))
