import re

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mammo_lightning.classifiers.hyper import Hyper
from mammo_lightning.errors import SettingsError
from mammo_lightning.registry import CLASSIFIERS
from mammo_lightning.space import DATA, TRAINING, Space, flatten, make_space, parse


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


@pytest.mark.parametrize("text", ["1:", ":", "1:2:3:4", "1:2:linear"])
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
        ({"depth": 1}, {"depth": "1,2"}, "both set and searched"),
    ],
)
def test_bad_settings(chosen: dict, search: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        make_space(Hyper, chosen=chosen, search=search)


@pytest.mark.parametrize(
    ("name", "value", "within"),
    [
        ("learning_rate", "0", "(0, 100]"),
        ("learning_rate", "-1", "(0, 100]"),
        ("learning_rate", "inf", "(0, 100]"),
        ("learning_rate", "nan", "(0, 100]"),
        ("batch_size", 0, "[1, 65536]"),
        ("epochs", 0, "[1, 10000]"),
        ("patience", 0, "[1, 10000]"),
        ("beta2", 1, "[0, 1)"),
        ("weight_decay", "-0.1", "[0, 100]"),
        ("weight_decay", "inf", "[0, 100]"),
        ("background_size", 0, "[2, 4096]"),
        ("wavelet_threshold", -1, "[0, 1000]"),
        ("depth", 6, "[1, 5]"),
        ("depth", 0, "[1, 5]"),
        ("init", 0, "[1, 1024]"),
        ("dropout", 0.9, "[0, 0.9)"),
        ("norm_momentum", 0, "(0, 1]"),
    ],
)
@pytest.mark.parametrize("how", ["set", "choice", "low end", "high end"])
def test_a_number_out_of_range_is_refused_however_it_comes(name: str, value: object, within: str, how: str) -> None:
    usual = {**Hyper.defaults, **TRAINING, **DATA}[name]
    search = {"choice": f"{usual},{value}", "low end": f"{value}:{usual}", "high end": f"{usual}:{value}"}
    asked = {"chosen": {name: value}} if how == "set" else {"search": {name: search[how]}}
    said = re.escape(f"{name}={value} is not possible; it must lie in {within}. The default is ")
    with pytest.raises(SettingsError, match=said):
        make_space(Hyper, **asked)


@pytest.mark.parametrize(("name", "value"), [("depth", 5), ("dropout", 0.899), ("norm_momentum", 1), ("beta2", 0)])
def test_the_end_of_a_range_belongs_to_it_where_the_bracket_says_so(name: str, value: float) -> None:
    assert make_space(Hyper, chosen={name: value}).fixed[name] == value


@pytest.mark.parametrize("name", CLASSIFIERS.names())
def test_every_default_and_every_search_of_ours_lies_within_its_range(name: str) -> None:
    cls = CLASSIFIERS.get(name)
    assert set(cls.ranges) <= set(cls.defaults)
    for settings in make_space(cls).corners():
        make_space(cls, chosen=settings)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("5:1", "holds nothing between its ends"),
        ("a:b", "'a' is not float"),
        ("0:1:log", "a log search begins above 0; write x=1e-5:1:log"),
        ("0:1:2", "no step of 2 fits"),
        ("0:1:0", "no step of 0 fits"),
        ("0:1:nan", "no step of nan fits"),
    ],
)
def test_a_range_without_sense(text: str, match: str) -> None:
    with pytest.raises(SettingsError, match=match):
        parse("x", text, 1.0)


def test_words_have_no_range() -> None:
    with pytest.raises(SettingsError, match=r"preprocessing is no number; write preprocessing=A,B"):
        make_space(Hyper, search={"preprocessing": "none:gcn"})


def test_what_is_implied_yields_to_what_is_set_or_searched() -> None:
    implied = {"epochs": 7, "stopping": "inner"}
    assert make_space(Hyper, implied=implied).fixed["stopping"] == "inner"
    assert make_space(Hyper, implied=implied, chosen={"stopping": "last"}).fixed["stopping"] == "last"
    space = make_space(Hyper, implied=implied, search={"stopping": "last,inner", "epochs": "5:10"})
    assert space.search["stopping"] == CategoricalDistribution(["last", "inner"])
    assert space.default_params()["epochs"] == 7


def test_corners_are_the_ends_of_each_parameter_in_turn() -> None:
    searched = {"init": "4,8", "dropout": "0:0.5", "depth": "1,2,3", "learning_rate": "1e-4:1e-3:log"}
    space = make_space(Hyper, search=searched)
    corners = Space(space.fixed, {name: space.search[name] for name in searched}).corners()
    seen = [tuple(corner[name] for name in searched) for corner in corners]
    middle = (4, 0.05, 1, 1e-4)  # init 10 and the rate 3e-3 are not searched
    assert seen[0] == middle
    assert set(seen[1:]) == {
        (8, 0.05, 1, 1e-4),
        (4, 0.0, 1, 1e-4),
        (4, 0.5, 1, 1e-4),
        (4, 0.05, 2, 1e-4),
        (4, 0.05, 3, 1e-4),
        (4, 0.05, 1, 1e-3),
    }
    assert all(corner["batch_size"] == 60 for corner in corners)


def test_one_flat_namespace() -> None:
    with pytest.raises(SettingsError, match="'depth' is declared twice"):
        flatten({"depth": 1}, {"depth": 2})


def test_the_first_trial_tries_the_defaults_where_they_are_searched() -> None:
    assert make_space(Hyper).default_params() is not None
    assert make_space(Hyper, search={"depth": "4,5"}).default_params() is None
