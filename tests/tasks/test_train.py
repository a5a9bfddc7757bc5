"""Recipes by name: fields are checked, the generator and the function agree, and a stopped run continues."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import becalm
from becalm.core.files import InputError
from becalm.tasks import train as task

SMALL = {"start": "jets", "workers": 0, "log_every": 1, "warmup": 1}


def test_train_leaves_a_model_that_loads_and_says_what_it_did(tmp_path):
    result = becalm.train("jets", steps=2, run=str(tmp_path / "run"), **SMALL)
    assert [record["step"] for record in result.records] == [1, 2, 2]
    assert result.path == tmp_path / "run" / "jets.safetensors"
    assert type(result.model).__name__ == "Jets"
    assert "jets.safetensors: step 2, " in repr(result)
    assert "jets.safetensors" in result._repr_html_()


def test_the_generator_reports_each_record_and_the_share_that_is_done(tmp_path):
    reports = list(task.steps("jets", steps=2, run=tmp_path, **SMALL))
    assert [report.done for report in reports] == [0.5, 1.0, 1.0, 1.0]
    assert [report.result is None for report in reports] == [True, True, True, False]
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [report.state for report in reports[:2]] == logged
    assert reports[2].state["estimate step"] == 2, "two batches of 1 600, so an 800th of 1 500 steps"


@pytest.mark.parametrize("name", task.recipes())
def test_every_recipe_has_a_folder_and_a_function(name):
    recipe, run = task.recipes()[name]
    assert isinstance(recipe.run, Path)
    assert run.__module__ == type(recipe).__module__
    assert task.change_fields(recipe, {"seed": 7}).seed == 7
    assert replace(recipe, seed=7) == task.change_fields(recipe, {"seed": 7})


def test_fields_of_the_plan_are_given_by_their_own_names():
    recipe = task.recipes()["jets"].recipe
    changed = task.change_fields(recipe, {"steps": 9, "seed": 1, "meshes": "folder"})
    assert (changed.plan.steps, changed.seed, changed.meshes) == (9, 1, Path("folder"))
    assert changed.plan.learning_rate == recipe.plan.learning_rate


def test_unknown_names_are_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="jetz: no such recipe; there are jets, sbd"):
        becalm.train("jetz")
    with pytest.raises(InputError, match=r"jets: stepz: no such field; there are run, .*steps"):
        becalm.train("jets", stepz=3)
