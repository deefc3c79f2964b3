"""Every recipe that travels with the package runs, on made-up data, with the command that its users would type."""

from pathlib import Path

import pytest

from emoreason.apps.cli.main import execute

RECIPES = sorted((Path(__file__).parent.parent / "finetune").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs(recipe, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # nothing is left where it was started
    assert execute(["finetune", str(recipe), "--smoke"]) == 0
    assert "the recipe works" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_a_recipe_it_is_the_head(capsys):
    assert execute(["finetune", "--smoke", "--loss.name", "symmetric"]) == 0
    assert "what is trained: head" in capsys.readouterr().err


def test_recipes_are_explained():
    """A launch line at the top of each."""
    assert len(RECIPES) >= 10
    for recipe in RECIPES:
        top = [line for line in recipe.read_text().splitlines() if line.startswith("#")]
        assert any(f"emoreason finetune finetune/{recipe.name}" in line for line in top), recipe.name
