"""The recipes of LION as the paper has it and of the diffusion of points: annealed weights, both stages, a saved model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from becalm.recipes import lion, pvd
from becalm.systems.lion import Lion
from becalm.systems.pvd import PointDiffusion
from becalm.training.loop import Plan
from becalm.weights.store import load

PLAN = Plan(steps=2, warmup=1, log_every=1, save_every=2, bfloat16=False)
SMALL = replace(lion.Recipe(), pool=4, points=24, batch=2, prior_steps=2, plan=PLAN)


def test_both_kl_weights_rise_to_their_own_values_over_the_first_half():
    recipe = replace(SMALL, kl_z=0.2, kl_h=0.8, plan=replace(PLAN, steps=100))
    assert lion.kl_weights(recipe, 0) == pytest.approx((1e-7, 1e-7))
    assert lion.kl_weights(recipe, 25) == pytest.approx((0.1, 0.4), abs=1e-6)
    assert lion.kl_weights(recipe, 50) == lion.kl_weights(recipe, 99) == pytest.approx((0.2, 0.8))


def test_both_stages_are_trained_and_the_autoencoder_is_frozen_in_the_second(tmp_path):
    recipe = replace(SMALL, run=tmp_path, weight="elbo", variance="small", times="importance")
    records, first = [], None
    for record in lion.run(recipe):
        records.append(record)
    assert [r["stage"] for r in records] == ["autoencoder"] * 2 + ["prior"] * 2
    assert all(np.isfinite(r["loss"]) for r in records)
    made = load(tmp_path / "lion.safetensors", Lion)
    assert made.variance == "small" and (made.latent_std != 1).all()
    first = load_stage_1(recipe, tmp_path)
    for name, tensor in made.state_dict().items():
        if name.startswith(("global_encoder", "point_encoder", "decoder")):
            torch.testing.assert_close(tensor, first[name].half().float(), rtol=0, atol=1e-6, msg=name)


def load_stage_1(recipe, folder) -> dict:
    """The weights after stage 1 alone."""
    alone = replace(recipe, run=folder / "alone", prior_steps=0)
    list(lion.run(alone))
    return load(folder / "alone" / "lion.safetensors", Lion).state_dict()


def test_a_diffusion_of_points_is_trained(tmp_path):
    recipe = replace(pvd.Recipe(), pool=4, points=24, batch=2, run=tmp_path, plan=PLAN)
    records = list(pvd.run(recipe))
    assert len(records) == 2 and all(np.isfinite(r["loss"]) for r in records)
    made = load(tmp_path / "pvd.safetensors", PointDiffusion)
    assert 0.2 < made.std < 1
