"""Processes that train together draw the noise levels of a step that one process draws: stratified over all of its data."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from becalm.core import likelihood, scores
from becalm.recipes import ddpm, digits8, lion, lion_sparse, pvd, vdm
from becalm.systems import lion as lion_system
from becalm.systems import lion_sparse as lion_sparse_system
from becalm.systems import pvd as pvd_system
from becalm.tasks.train import own_share
from becalm.training import distributed
from tests.recipes import test_lion_sparse

STEPS = 2


class _DoneError(Exception):
    """Ends a loss whose noise levels are known, and a recipe after its first steps."""


def small_vdm(recipe, folder):
    file = folder / "digits.npz"
    np.savez(file, x_train=np.zeros((9, 8, 8), np.uint8), x_test=np.zeros((2, 8, 8), np.uint8))
    return replace(recipe, digits=file, widths=(8, 16), batch=4)


RECIPES = {
    "digits8": (vdm, lambda folder: small_vdm(vdm.DIGITS8, folder), likelihood, "noise_error", 2),
    "ddpm_digits8": (ddpm, lambda folder: small_vdm(ddpm.DIGITS8, folder), likelihood, "noise_error", 2),
    "ncsn_digits8": (digits8, lambda _: replace(digits8.NCSN, batch=4, width=8), scores, "denoising_multilevel", 3),
    "lion": (lion, lambda _: replace(lion.Recipe(), pool=4, points=24, batch=4), lion_system, "corrupt", 1),
    "pvd": (pvd, lambda _: replace(pvd.Recipe(), pool=4, points=24, batch=4), pvd_system, "corrupt", 1),
    "lion_sparse": (lion_sparse, lambda _: test_lion_sparse.SMALL, lion_sparse_system, "corrupt", 1),
}
"""Recipe -> its module, a small one of its kind, and the argument of a function of its loss that is the noise levels."""


def levels_of_steps(name, folder, monkeypatch, processes: int = 1, number: int = 0) -> list[torch.Tensor]:
    """The noise levels of the first steps in one of several processes."""
    module, small, owner, function, place = RECIPES[name]
    seen = []

    def train(model, loss, batches, plan, run):
        run.mkdir(parents=True)
        if run.name != "autoencoder":
            for batch in islice(batches(0), STEPS):
                with pytest.raises(_DoneError):
                    loss(model, batch)
            raise _DoneError
        yield from ()

    original = getattr(owner, function)

    def record(*arguments):
        t = arguments[place]
        if t.numel() != len(t):  # a level for each variable
            return original(*arguments)
        seen.append(t.flatten())
        raise _DoneError

    with monkeypatch.context() as patch:
        patch.setattr(module, "train", train)
        patch.setattr(owner, function, record)
        patch.setattr(distributed, "process_count", lambda: processes)
        patch.setattr(distributed, "process_number", lambda: number)
        recipe = own_share(replace(small(folder), run=folder / f"run{processes}{number}"), processes)
        with pytest.raises(_DoneError):
            list(module.run(recipe))
    return seen


@pytest.mark.parametrize("name", RECIPES)
def test_processes_share_the_levels_that_one_process_draws(name, tmp_path, monkeypatch):
    alone = levels_of_steps(name, tmp_path, monkeypatch)
    parts = [levels_of_steps(name, tmp_path, monkeypatch, 2, number) for number in range(2)]
    assert [len(t) for t in alone] == [4] * STEPS and [len(t) for t in parts[0]] == [2] * STEPS
    for step, t in enumerate(alone):
        assert torch.equal(torch.stack([part[step] for part in parts], 1).flatten(), t)
        assert len(t.unique()) == 4
    assert not torch.equal(alone[0], alone[1])


def test_a_schedule_that_is_fitted_in_training_observes_the_errors_of_all_processes(tmp_path, monkeypatch):
    seen = []

    def train(model, *_):
        seen.append(model.schedule.gather)
        raise _DoneError

    monkeypatch.setattr(vdm, "train", train)
    with pytest.raises(_DoneError):
        list(vdm.run(replace(small_vdm(vdm.DIGITS8, tmp_path), schedule="few steps")))
    assert seen == [distributed.gather_rows]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_times_are_evenly_spaced_over_all_data_of_a_step(processes, monkeypatch):
    monkeypatch.setattr(distributed, "process_count", lambda: processes)
    parts = [distributed.stratified_times(12 // processes, 5, 7 * processes + number) for number in range(processes)]
    t = torch.cat(parts).flatten().sort().values
    torch.testing.assert_close(t.diff(), torch.full((11,), 1 / 12, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert all(part.shape == (12 // processes, 1, 1) for part in parts)
    assert 0 <= t[0] < 1 / 12
