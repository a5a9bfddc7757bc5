"""The recipe for data of one's own: what is read and refused, batches, and a rule that is learned."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import becalm
from becalm.core.files import InputError
from becalm.recipes import srm

PAIRS = np.array([[1.0], [-1.0]])[np.random.default_rng(0).integers(0, 2, (256, 1)) ^ np.array([[0, 1]])]
"""Two variables that are 1 and −1, in either order: [256, 2, 1]."""

SMALL = {"batch": 32, "width": 16, "heads": 2, "depth": 1, "steps": 80, "warmup": 5, "ema_decay": 0.9}


def test_the_model_learns_that_two_variables_differ(tmp_path):
    np.savez(tmp_path / "mine.npz", x=PAIRS)
    result = becalm.train("srm", data=tmp_path / "mine.npz", run=tmp_path / "run", learning_rate=5e-3, **SMALL)
    assert result.path == tmp_path / "run" / "srm.safetensors"
    x = torch.tensor([[[1.0], [0.0]], [[-1.0], [0.0]]]).repeat(20, 1, 1)
    unknown = torch.tensor([[False, True]]).repeat(40, 1)
    *_, last = result.model.solve(x, unknown, generator=torch.Generator().manual_seed(0))
    assert torch.equal(last.z[:, 0], x[:, 0])
    assert (last.z[:, 1] * x[:, 0] < 0).double().mean() > 0.75, "half would be by chance"


def test_a_batch_is_a_function_of_seed_and_step_with_given_and_sequential_states():
    recipe, x = srm.Recipe(batch=64, seed=3), torch.from_numpy(PAIRS).float()
    one, again, other = (srm.make_batch(recipe, x, torch.ones_like, step) for step in (5, 5, 6))
    assert torch.equal(one.x, again.x) and torch.equal(one.t, again.t) and one.seed == again.seed
    assert not torch.equal(one.t, other.t) and one.seed != other.seed
    assert (one.t[:32] == 0).any(), "variables are given in the drawn states too"
    assert (one.t[32:] == 1).any() and (one.x.sum(1) == 0).all()


def test_places_are_numbers_of_the_variables_or_those_of_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=PAIRS)
    np.savez(tmp_path / "b.npz", x=PAIRS, places=np.array([[0.0, 0.5], [1.0, 0.5]]))
    assert srm.read_data(tmp_path / "a.npz")[1].tolist() == [[0], [1]]
    x, places = srm.read_data(tmp_path / "b.npz")
    assert srm.build_model(replace(srm.Recipe(), width=16), x, places).places.tolist() == [[0.0, 0.5], [1.0, 0.5]]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": PAIRS}, r"x: numbers \[datum, variable, channel\] are needed; the file has y \[256, 2, 1\]"),
        ({"x": PAIRS[..., 0]}, r"the file has x \[256, 2\]"),
        ({"x": np.full((4, 2, 1), np.nan)}, "not finite"),
        ({"x": 100 + PAIRS}, r"has mean 100, standard deviation 1; give \(x − mean\)/deviation"),
        ({"x": PAIRS, "places": np.zeros((3, 1))}, r"places: must be \[2 variables, axis\]; it is \[3, 1\]"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_what_to_do(tmp_path, arrays, words):
    np.savez(tmp_path / "mine.npz", **arrays)
    with pytest.raises(InputError, match=words):
        srm.read_data(tmp_path / "mine.npz")


def test_a_file_that_is_none_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        srm.read_data(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("1 2 3")
    with pytest.raises(InputError, match=r"text\.npz: is no \.npz file"):
        srm.read_data(tmp_path / "text.npz")
    np.savez(tmp_path / "whole.npz", x=np.zeros((4, 2, 1)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:200])
    with pytest.raises(InputError, match=r"cut.npz: is no .npz file of arrays"):
        srm.read_data(tmp_path / "cut.npz")
