"""The recipe of the plane: every objective takes a step, runs continue exactly, what does not fit is refused."""

import json
from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

from becalm.core.densities import GaussianMixture
from becalm.core.files import InputError
from becalm.recipes import ebm_toy
from becalm.systems.fields import ScoreModel
from becalm.training.loop import Plan, train
from becalm.training.state import load_state
from becalm.weights.store import load

PLAN = Plan(steps=4, learning_rate=1e-3, bfloat16=False, log_every=1, save_every=2)
SMALL = ebm_toy.Recipe(batch=32, width=16, depth=2, levels=4, langevin_steps=3, buffer=64, plan=PLAN)


def recipe_of(objective: str) -> ebm_toy.Recipe:
    model = "energy" if objective in ebm_toy.NEED_ENERGY else "score"
    return replace(SMALL, objective=objective, model=model)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ebm_toy.OBJECTIVES)
def test_every_objective_has_a_gradient_for_every_weight_that_counts(objective):
    recipe = recipe_of(objective)
    training, batch = ebm_toy.build_model(recipe), ebm_toy.sample_batch(recipe, ebm_toy.make_density(recipe), 0)
    loss = ebm_toy.loss(recipe, training, batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    leaving = training.model.network.leave.weight.grad
    assert leaving is not None and leaving.abs().max() > 0
    assert torch.equal(loss, ebm_toy.loss(recipe, ebm_toy.build_model(recipe), batch)["loss"]), "seeded"


def test_a_batch_is_a_function_of_seed_and_step():
    density = ebm_toy.make_density(SMALL)
    one, again, other = (ebm_toy.sample_batch(SMALL, density, step) for step in (3, 3, 4))
    assert torch.equal(one.x, again.x) and one.seed == again.seed
    assert not torch.equal(one.x, other.x)


def test_a_run_with_persistent_chains_continues_as_if_it_had_not_been_cut(tmp_path):
    recipe = recipe_of("persistent")
    density, ends = ebm_toy.make_density(recipe), []
    for cuts in ((4,), (2, 4)):
        for steps in cuts:
            training, folder = ebm_toy.build_model(recipe), tmp_path / str(len(cuts))
            make = partial(ebm_toy.sample_batch, recipe, density)
            batches = map(make, count(0)) if steps == cuts[0] else map(make, count(cuts[0]))
            plan = replace(PLAN, steps=4)
            limited = (b for b, _ in zip(batches, range(steps), strict=False))
            list(train(training, partial(ebm_toy.loss, recipe), lambda start, b=limited: b, plan, folder))
        ends.append(load_state(tmp_path / str(len(cuts))))
    for name, value in ends[0][0].items():
        torch.testing.assert_close(value, ends[1][0][name], rtol=1e-4, atol=1e-6)
    moved = (ends[0][0]["model.chains"] != ebm_toy.build_model(recipe).chains).any()
    assert moved and ends[1][1] == 4


def test_vectors_are_refused_where_an_energy_is_needed():
    for objective in ebm_toy.NEED_ENERGY:
        with pytest.raises(InputError, match=f"--model score: .* {objective} needs; --model energy"):
            ebm_toy.build_model(replace(recipe_of(objective), model="score"))


def test_a_run_leaves_weights_measures_and_a_picture(tmp_path):
    recipe = replace(recipe_of("denoising_multilevel"), run=tmp_path)
    *_, last = ebm_toy.run(recipe)
    assert json.loads((tmp_path / "measures.json").read_text()) == last
    assert last["fisher"] > 0 and last["distance"] > 0
    assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert load(tmp_path / "ebm_toy.safetensors", ScoreModel).schedule.steps == 4


def test_the_torus_is_evenly_covered():
    points = ebm_toy.torus(20_000, torch.Generator().manual_seed(0))
    reach = points[:, :2].norm(dim=1)
    torch.testing.assert_close((reach - 1).square() + points[:, 2].square(), torch.full((20_000,), 0.16).double())
    outer = (reach > 1).double().mean()
    assert abs(outer - (0.5 + 0.4 / torch.pi)) < 4 * 0.5 / 20_000**0.5


def test_a_surface_s_score_in_closed_form_leads_back_to_it():
    recipe = replace(SMALL, density="surface")
    density = ebm_toy.make_density(recipe)
    assert isinstance(density, GaussianMixture)
    blurred = density.convolve(0.1)
    z = density.sample(300, torch.Generator().manual_seed(1)) + 0.1
    back = z + 0.1**2 * blurred.score(z)

    def off(x):
        return ((x[:, :2].norm(dim=1) - 1).square() + x[:, 2].square()).sqrt().sub(0.4).abs().mean()

    assert off(back) < 0.6 * off(z)
    assert ebm_toy.build_model(recipe).model.config["channels"] == 3
