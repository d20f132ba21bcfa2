from pathlib import Path

import pytest

from mammo_lightning.errors import SettingsError
from mammo_lightning.recipe import make_recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[1] / "experiments" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_at_hand_are_recipes(path: Path) -> None:
    assert make_recipe(read_recipe(path)).study


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"epoch": 3}, "no key 'epoch'; known: .*epochs"),
        ({"epochs": "many"}, "epochs = 'many' is not possible"),
        ({"folds": 1}, "folds = 1 is not possible"),
        ({"objective": "accuracy"}, "objective = 'accuracy'.*val_auc"),
        ({"scheme": "loo"}, "scheme = 'loo'"),
        ({"name": "a/b"}, "at most 48 letters"),
        ({"test": 1.5}, "test = 1.5"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(keys: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match) as error:
        make_recipe(keys)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no recipe 'absent.toml'"):
        read_recipe(Path("absent.toml"))
    (tmp_path / "bad.toml").write_text("trials = [")
    with pytest.raises(SettingsError, match="is not readable TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_a_pareto_study_does_not_fix_the_fpr_by_its_rule() -> None:
    assert make_recipe({"objective": "tpr,fpr"}).rule == "youden"
    assert make_recipe({}).rule == "spec0.80"
