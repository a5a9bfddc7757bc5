"""The recipe of the Sudoku solvers: batches, resume by construction, and a loss that falls."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from becalm.core import times
from becalm.core.files import InputError
from becalm.images import sudoku as grids
from becalm.images.digits import Digits
from becalm.nets.digit_classifier import DigitClassifier
from becalm.recipes import sudoku
from becalm.systems.jets import Jets
from becalm.systems.srm_digits import DigitSRM
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

SMALL = replace(
    sudoku.SUDOKU4,
    pixels=2,
    reader=None,
    handwriting=0.0,
    batch=32,
    width=32,
    depth=2,
    plan=Plan(steps=60, learning_rate=3e-3, warmup=5, ema_decay=0.9),
)


def pool() -> Digits:
    """Four digits of 2 × 2 pixels, each one pixel of ink, each drawn eight times, a little differently."""
    ink = torch.eye(4).repeat(8, 1) * 0.9 + 0.1 * torch.rand(32, 4, generator=torch.Generator().manual_seed(0))
    return Digits(ink.reshape(32, 2, 2), torch.arange(32) % 4 + 1)


def pools() -> sudoku.Pools:
    """The same digits to be given and to be written with, but those given are drawn at 4 × 4 pixels."""
    clear = pool()
    large = clear.images.repeat_interleave(2, 1).repeat_interleave(2, 2)
    return sudoku.Pools(Digits(large, clear.labels), clear)


def with_classifier(tmp_path: Path, side: int = 2) -> Path:
    """The file of a digit classifier of random weights."""
    torch.manual_seed(1)
    save(DigitClassifier(side, 4), tmp_path / "reader.safetensors", {})
    return tmp_path / "reader.safetensors"


def weight():
    return times.inverse_density_weight(times.uniform_mean, 16, torch.Generator().manual_seed(0), 2000)


def test_a_batch_is_a_function_of_seed_and_step():
    one, again, next_one = (sudoku.make_batch(SMALL, pools(), weight(), step) for step in (3, 3, 4))
    for a, b, c in zip(one[:4], again[:4], next_one[:4], strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert one.seed == again.seed != next_one.seed


def test_a_batch_holds_valid_training_grids_and_both_kinds_of_states():
    batch = sudoku.make_batch(SMALL, pools(), weight(), 0)
    digits = batch.x.argmax(-1) + 1
    assert grids.is_valid(digits).all()
    assert not grids.held_out(digits).any()
    visited = batch.t[16:, :, 0]
    moving = ((visited > 0) & (visited < 1)).sum(1)
    assert moving.max() <= 2
    assert (batch.weight[16:] == 1).all()
    assert ((batch.t[:16, :, 0] > 0) & (batch.t[:16, :, 0] < 1)).sum(1).max() > 2


def test_given_cells_alone_show_digits_of_the_larger_pool():
    clear, given = pool(), Digits(1 - pools().given.images, pool().labels)
    batch = sudoku.make_batch(SMALL, sudoku.Pools(given, clear), weight(), 0)
    inverted = (batch.x.argmin(-1) + 1 == batch.grids) & (batch.x.amin(-1) < -0.5) & (batch.x.mean(-1) > 0)
    known = batch.t[..., 0] == 0
    assert not (inverted & ~known).any()
    assert inverted[:16][known[:16]].all()
    share = inverted[16:][known[16:]].double().mean()
    assert 0.2 < share < 0.8


def test_distorted_digits_are_given_and_clear_ones_solved():
    plain, distorted = (sudoku.make_batch(replace(SMALL, handwriting=h), pools(), weight(), 0) for h in (0.0, 1.0))
    known = plain.t[..., 0] == 0
    assert torch.equal(plain.x[~known], distorted.x[~known])
    changed = (plain.x - distorted.x).abs().amax(-1) > 0.01
    assert 0.1 < changed[known].double().mean() < 0.9


def test_a_reader_changes_nothing_at_first_and_is_seen_afterwards(tmp_path):
    recipe = replace(SMALL, reader=with_classifier(tmp_path))
    torch.manual_seed(0)
    before = sudoku.build_model(SMALL, pool()).eval()
    torch.nn.init.normal_(before.network.leave[-1].weight)
    save(before, tmp_path / "before.safetensors", {})
    after = sudoku.build_model(replace(recipe, start=tmp_path / "before.safetensors"), pool()).eval()
    assert isinstance(after, DigitSRM)
    batch = sudoku.make_batch(SMALL, pools(), weight(), 0)
    with torch.no_grad():
        assert torch.allclose(before(batch.x, batch.t).value, after(batch.x, batch.t).value, atol=1e-5)
    seen = after.inputs(batch.x, batch.t)[..., 4:]
    known = batch.t[..., 0] == 0
    expected = after.reader(batch.x[known])[:, 1:5].exp()
    assert torch.allclose(seen[known], expected, atol=1e-5) and (seen[~known] == 0).all()
    save(after, tmp_path / "after.safetensors", {})
    again = sudoku.build_model(replace(recipe, start=tmp_path / "after.safetensors"), pool())
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), after.state_dict().values(), strict=True))


def test_training_leaves_the_reader_as_it_is(tmp_path):
    recipe = replace(SMALL, reader=with_classifier(tmp_path), plan=replace(SMALL.plan, steps=2))
    model = sudoku.build_model(recipe, pool()).train()
    before = {name: value.clone() for name, value in model.reader.state_dict().items()}
    make = partial(sudoku.make_batch, recipe, pools(), weight())
    list(
        train(
            model, partial(sudoku.loss, torch.eye(4)), lambda start: map(make, range(start, 2)), recipe.plan, tmp_path
        )
    )
    assert all(torch.equal(before[name], value) for name, value in model.reader.state_dict().items())


def test_a_reader_of_another_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="reads cells of 3 pixels, and --pixels says 2; give --reader none"):
        sudoku.build_model(replace(SMALL, reader=with_classifier(tmp_path, 3)), pool())


def test_more_loops_may_be_asked_of_weights_to_begin_from(tmp_path):
    save(sudoku.build_model(SMALL, pool()), tmp_path / "four.safetensors", {})
    model = sudoku.build_model(replace(SMALL, start=tmp_path / "four.safetensors", loops=3), pool())
    assert len(model.loop_outputs(torch.zeros(1, 16, 4), torch.ones(1, 16, 1))) == 3
    save(model, tmp_path / "three.safetensors", {})
    assert load(tmp_path / "three.safetensors").network.loops == 3


def test_an_interrupted_run_ends_as_one_that_was_not(tmp_path):
    np.savez(tmp_path / "mnist.npz", **tiny_mnist())
    recipe = replace(
        SMALL, digits=tmp_path / "mnist.npz", run=tmp_path / "whole", reader=with_classifier(tmp_path), handwriting=1.0
    )
    recipe = replace(recipe, plan=Plan(steps=4, save_every=2, log_every=1, warmup=1), batch=4)
    list(sudoku.run(recipe))
    parts = replace(recipe, run=tmp_path / "parts")
    for _, _ in zip(range(3), sudoku.run(parts), strict=False):
        pass
    list(sudoku.run(parts))
    whole, resumed = (load(r.run / "sudoku4.safetensors").state_dict() for r in (recipe, parts))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def tiny_mnist() -> dict:
    """Forty images of random ink as MNIST's file has them."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8) % 10
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}


def test_the_loss_falls(tmp_path):
    make = partial(sudoku.make_batch, SMALL, pools(), weight())
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
    with pytest.raises(InputError, match=r"needed is a reasoning model \(srm\)"):
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
    given, clear = sudoku.training_digits(recipe)
    assert clear.images.shape == (200, 8, 8) and set(clear.labels.tolist()) == {1, 2, 3, 4}
    assert len(given) > 500 and given.images.shape[1:] == (8, 8)
    with pytest.raises(InputError, match="--pixels 14: digits8 has digits of 8 pixels a side"):
        sudoku.training_digits(replace(recipe, pixels=14))
