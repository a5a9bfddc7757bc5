import pytest
import torch

from becalm.core.files import InputError
from becalm.recipes.sbd import Recipe, build_model, loss, make_batch, run
from becalm.systems.sbd import SBD
from becalm.training.loop import Plan
from becalm.weights.store import load, save


def recipe(folder, **fields) -> Recipe:
    plan = Plan(steps=2, learning_rate=1e-3, warmup=1, log_every=1, bfloat16=False)
    return Recipe(run=folder, workers=0, hidden=16, draws=2, plan=plan, **fields)


def test_a_batch_is_a_function_of_seed_and_step(tmp_path):
    one, same, other = (make_batch(recipe(tmp_path), step) for step in (3, 3, 4))
    assert torch.equal(one.assumed_sigma, same.assumed_sigma) and one.seed == same.seed
    assert torch.equal(one.items[0].clean, same.items[0].clean)
    assert one.seed != other.seed and one.items[0].clean.shape != other.items[0].clean.shape


def test_what_is_told_is_doubted(tmp_path):
    sure, doubting = (make_batch(recipe(tmp_path, sigma_error=sigma_error), 1) for sigma_error in (0.0, 0.1))
    assert torch.equal(sure.assumed_sigma, sure.items[0].sigma)
    ratio = doubting.assumed_sigma / sure.assumed_sigma
    assert ratio.std() < 1e-3 and 0.01 < (ratio.mean() - 1).abs() < 0.5, "one factor for the whole scan"


@pytest.mark.parametrize("learned", ["head", "all"])
def test_what_learns(tmp_path, learned):
    model = build_model(recipe(tmp_path, learned=learned))
    terms = loss(recipe(tmp_path), model, make_batch(recipe(tmp_path), 0))
    terms["loss"].backward()
    moved = [p.grad is not None and bool(p.grad.any()) for p in model.trunk.parameters()]
    assert any(moved) == (learned == "all")
    assert any(p.grad is not None and bool(p.grad.any()) for p in model.head.parameters())


def test_it_starts_from_a_jets_network_and_nothing_else(tmp_path):
    model = build_model(recipe(tmp_path))
    trunk = load("jets").state_dict()
    assert all(torch.equal(tensor, trunk[name]) for name, tensor in model.trunk.state_dict().items())
    save(model, tmp_path / "sbd.safetensors", {})
    with pytest.raises(InputError, match=r"needed is a denoiser of scans \(jets\)"):
        build_model(recipe(tmp_path, start=tmp_path / "sbd.safetensors"))


def test_a_run_leaves_a_model_that_can_be_loaded(tmp_path):
    records = list(run(recipe(tmp_path)))
    assert [r["step"] for r in records] == [1, 2] and not any(r["skipped"] for r in records)
    model = load(tmp_path / "sbd.safetensors")
    assert isinstance(model, SBD) and bool(model.head.network[-1].weight.any()), "it has learned"
