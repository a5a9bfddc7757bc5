"""The recipe of the Sudoku solvers: batches, resume by construction, and a loss that falls."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.images import sudoku as grids
from becalm.images.digits import Digits
from becalm.recipes import sudoku
from becalm.systems.jets import Jets
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

SMALL = replace(
    sudoku.SUDOKU4,
    pixels=2,
    batch=32,
    width=32,
    depth=2,
    plan=Plan(steps=60, learning_rate=3e-3, warmup=5, ema_decay=0.9),
)


def pool() -> Digits:
    """Four digits of 2 × 2 pixels, each one pixel of ink, each drawn eight times, a little differently."""
    ink = torch.eye(4).repeat(8, 1) * 0.9 + 0.1 * torch.rand(32, 4, generator=torch.Generator().manual_seed(0))
    return Digits(ink.reshape(32, 2, 2), torch.arange(32) % 4 + 1)


def weight():
    return times.inverse_density_weight(times.uniform_mean, 16, torch.Generator().manual_seed(0), 2000)


def test_a_batch_is_a_function_of_seed_and_step():
    one, again, next_one = (sudoku.make_batch(SMALL, pool(), weight(), step) for step in (3, 3, 4))
    for a, b, c in zip(one[:4], again[:4], next_one[:4], strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert one.seed == again.seed != next_one.seed


def test_a_batch_holds_valid_training_grids_and_both_kinds_of_states():
    batch = sudoku.make_batch(SMALL, pool(), weight(), 0)
    digits = batch.x.argmax(-1) + 1
    assert grids.is_valid(digits).all()
    assert not grids.held_out(digits).any()
    visited = batch.t[16:, :, 0]
    moving = ((visited > 0) & (visited < 1)).sum(1)
    assert moving.max() <= 2
    assert (batch.weight[16:] == 1).all()
    assert ((batch.t[:16, :, 0] > 0) & (batch.t[:16, :, 0] < 1)).sum(1).max() > 2


def test_the_loss_falls(tmp_path):
    make = partial(sudoku.make_batch, SMALL, pool(), weight())
    model = sudoku.build_model(SMALL, pool()).train()
    plan = replace(SMALL.plan, log_every=10)
    records = list(
        train(
            model, partial(sudoku.loss, 2 * torch.eye(4) - 1), lambda start: map(make, range(start, 60)), plan, tmp_path
        )
    )
    assert records[-1]["velocity"] < 0.93 * records[0]["velocity"]
    save(model, tmp_path / "small.safetensors", {})
    again = sudoku.build_model(replace(SMALL, start=tmp_path / "small.safetensors"), pool())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))


def test_weights_of_another_size_or_kind_are_refused(tmp_path):
    save(sudoku.build_model(SMALL, pool()), tmp_path / "four.safetensors", {})
    with pytest.raises(InputError, match="is for 16 cells of 4 numbers; --side and --pixels say 81 of 4"):
        sudoku.build_model(replace(SMALL, side=9, start=tmp_path / "four.safetensors"), pool())
    save(Jets(16, 1), tmp_path / "jets.safetensors", {})
    with pytest.raises(InputError, match="SRM is needed"):
        sudoku.build_model(replace(SMALL, start=tmp_path / "jets.safetensors"), pool())


def test_a_model_keeps_its_places_in_its_file(tmp_path):
    save(sudoku.build_model(SMALL, pool()), tmp_path / "four.safetensors", {})
    assert torch.equal(load(tmp_path / "four.safetensors").places, grids.places(4))


@pytest.mark.parametrize("kind", ["shared", "independent"])
def test_levels_that_are_uniform_weigh_alike(kind):
    weigh = sudoku.level_weight(replace(SMALL, times=kind))
    assert (weigh(torch.rand(50, 16, 1)) == 1).all()


def test_scikit_learn_s_digits_stand_in_for_mnist_at_their_size():
    recipe = replace(SMALL, digits=Path("digits8"), pixels=8, digits_per_class=50)
    known = sudoku.training_digits(recipe)
    assert known.images.shape == (200, 8, 8) and set(known.labels.tolist()) == {1, 2, 3, 4}
    with pytest.raises(InputError, match="--pixels 14: digits8 has digits of 8 pixels a side"):
        sudoku.training_digits(replace(recipe, pixels=14))
