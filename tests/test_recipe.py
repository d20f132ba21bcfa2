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
        ({"trials": True}, "trials = True is not possible: Input should be a valid integer"),
        ({"trials": 3.0}, "trials = 3.0 is not possible"),
        ({"trials": "3"}, "trials = '3' is not possible"),
        ({"test": True}, "test = True is not possible: Input should be a valid number"),
        ({"prune": 1}, "prune = 1 is not possible"),
        ({"name": 3}, "name = 3 is not possible"),
        ({"mlruns": 3}, "mlruns = 3 is not possible"),
        ({"search": "depth=1"}, "search = 'depth=1' is not possible"),
        ({"search": {"depth": 3}}, "search.depth = 3 is not possible: Input should be a valid string"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(keys: dict, match: str) -> None:
    with pytest.raises(SettingsError, match=match) as error:
        make_recipe(keys)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no recipe 'absent.toml'; pass the path of a TOML file"):
        read_recipe(Path("absent.toml"))
    (tmp_path / "bad.toml").write_text("trials = [")
    with pytest.raises(SettingsError, match="is not readable TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_the_recipes_at_hand_are_named_from_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RECIPES[0].parent
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=f"known: .*{folder}/demo.toml"):
        read_recipe(Path("absent.toml"), folder)
    monkeypatch.chdir(folder.parents[1])
    with pytest.raises(SettingsError, match=r"known: experiments/recipes/demo.toml, "):
        read_recipe(Path("absent.toml"), folder)


def test_what_is_wrong_in_a_file_is_said_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("folds = 1\n")
    with pytest.raises(SettingsError, match=r"recipe '.*bad.toml': folds = 1 is not possible"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "good.toml").write_text('root = "data"\ntest = 0\nmlruns = "m"\n')
    recipe = make_recipe(read_recipe(tmp_path / "good.toml"))
    assert (recipe.root, recipe.test, recipe.mlruns) == (Path("data"), 0.0, Path("m"))


def test_a_pareto_study_does_not_fix_the_fpr_by_its_rule() -> None:
    assert make_recipe({"objective": "tpr,fpr"}).rule == "youden"
    assert make_recipe({}).rule == "spec0.80"


def test_images_that_were_moved_are_found_with_their_table(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "images.csv").write_text("path,patient,label")
    recipe = make_recipe({"dataset": "table", "table": str(tmp_path / "old" / "images.csv")})
    assert recipe.moved(tmp_path / "new").table == tmp_path / "new" / "images.csv"
    assert recipe.moved(tmp_path / "new").root == tmp_path / "new"
    assert recipe.moved(tmp_path / "elsewhere").table == recipe.table, "it is not there either"
    assert recipe.moved(None) is recipe
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "images.csv").write_text("path,patient,label")
    assert recipe.moved(tmp_path / "new").table == recipe.table, "only the images were moved"
