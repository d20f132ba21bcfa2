import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.errors import SettingsError
from mammo_lightning.space import flatten, make_space, parse


@pytest.mark.parametrize(
    ("text", "default", "expected"),
    [
        ("1,3,5", 1, CategoricalDistribution([1, 3, 5])),
        ("none,d4", "none", CategoricalDistribution(["none", "d4"])),
        ("0:0.5", 0.1, FloatDistribution(0, 0.5)),
        ("1e-5:1e-2:log", 0.1, FloatDistribution(1e-5, 1e-2, log=True)),
        ("0:0.5:0.1", 0.1, FloatDistribution(0, 0.5, step=0.1)),
        ("10:30:10", 10, IntDistribution(10, 30, step=10)),
        ("8:64:log", 10, IntDistribution(8, 64, log=True)),
    ],
)
def test_searches_are_optuna_distributions(text: str, default: object, expected: object) -> None:
    assert parse("x", text, default) == expected


@pytest.mark.parametrize("text", ["1:", "5:1", "a:b", "1:2:3:4", "1:2:linear"])
def test_a_bad_search_says_how_to_write_one(text: str) -> None:
    with pytest.raises(SettingsError, match="is not understood; write x=1,3,5"):
        parse("x", text, 1.0)


def test_settings_and_searches_replace_the_classes_own() -> None:
    space = make_space(Hyper, chosen={"init": "20"}, search={"preprocessing": "none,background", "dropout": "0:0.5"})
    assert space.fixed["init"] == 20
    assert "init" not in space.search
    assert space.search["dropout"] == FloatDistribution(0, 0.5)
    assert space.search["preprocessing"] == CategoricalDistribution(["none", "background"])
    assert space.search["depth"] == Hyper.search_space["depth"]
    assert space.settings({"dropout": 0.3})["dropout"] == 0.3


@pytest.mark.parametrize(
    ("chosen", "search", "match"),
    [
        ({"width": 3}, {}, "no setting 'width'; known: .*depth"),
        ({}, {"width": "1,2"}, "no setting 'width'; known: .*depth"),
        ({"preprocessing": "blur"}, {}, "'blur' is not known; known: .*background"),
        ({}, {"schedule": "constant,step"}, "'step' is not known"),
        ({"depth": "deep"}, {}, "'deep' is not int"),
        ({"learning_rate": "-1"}, {}, "must be a number of 0 or more"),
        ({"depth": 1}, {"depth": "1,2"}, "both set and searched"),
    ],
)
def test_bad_settings(chosen: dict, search: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        make_space(Hyper, chosen=chosen, search=search)


def test_one_flat_namespace() -> None:
    with pytest.raises(SettingsError, match="'depth' is declared twice"):
        flatten({"depth": 1}, {"depth": 2})


def test_the_first_trial_tries_the_defaults_where_they_are_searched() -> None:
    assert make_space(Hyper).default_params() is not None
    assert make_space(Hyper, search={"depth": "4,5"}).default_params() is None
