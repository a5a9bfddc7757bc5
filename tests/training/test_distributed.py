"""Two processes train one model: the same data in a step, exact resume, one of them writes, copies that differ are refused."""

import json
import os
import socket
from functools import partial

import pytest
import torch
import torch.multiprocessing as processes
from torch import nn

from becalm.core.files import InputError
from becalm.core.learned import LeastVariance
from becalm.recipes import srm
from becalm.tasks.train import own_share
from becalm.training import distributed
from becalm.training.loop import Plan, train
from becalm.training.prefetch import prefetch
from becalm.training.state import load_state, state_files

PLAN = Plan(steps=20, learning_rate=1e-2, warmup=3, bfloat16=False, log_every=5, save_every=10)


def batch(size: int, number: int) -> torch.Tensor:
    """Data `number` · size to `number` · size + size − 1, each a function of its number."""
    rows = [
        torch.randn(3, generator=torch.Generator().manual_seed(i)) for i in range(number * size, (number + 1) * size)
    ]
    return torch.stack(rows)


def loss(model, x):
    return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean(), "size": torch.tensor(float(len(x)))}


def run_steps(folder, stop: int | None = None) -> nn.Module:
    """20 steps of 4 data in all, or the first ones of them."""
    torch.manual_seed(distributed.process_number())  # all begin with the weights of the first
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    make = partial(batch, 4 // distributed.process_count())
    for record in train(model, loss, partial(prefetch, make, workers=0), PLAN, folder):
        if record["step"] == stop:
            break
    return model


def observe(number: int, count: int) -> LeastVariance:
    """A schedule that has observed this process's part of eight errors."""
    gamma, error = torch.linspace(-13, 4, 8).double(), torch.linspace(0.1, 2, 8)
    schedule = LeastVariance()
    schedule.gather = distributed.gather_rows if count > 1 else schedule.gather
    rows = slice(number * 8 // count, (number + 1) * 8 // count)
    schedule.observe(gamma[rows], error[rows])
    return schedule


def train_together(number, folder):
    """One of two processes: 20 steps; 15, then on from the 10th; then a copy of a model that is changed on one of them."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(number), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    with pytest.raises(InputError, match="WORLD_SIZE is 2, but this process trains alone; start with `torchrun"):
        run_steps(folder / "alone")
    with distributed.process_group("cpu"):
        whole = run_steps(folder / "whole")
        run_steps(folder / "parts", stop=15)
        parts = run_steps(folder / "parts")
        assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))
        torch.save(whole.state_dict(), folder / f"{number}.pt")
        other = nn.Linear(2, 1)

        def change_one_copy(model, x):
            with torch.no_grad():
                model.bias += number
            return {"loss": model(x).square().mean()}

        schedule = observe(number, 2)
        distributed.check_copies(schedule, 1)
        assert torch.equal(schedule.total, observe(0, 1).total) and schedule.count.sum() == 8

        with pytest.raises(InputError, match="step 10: bias: differs between the processes"):
            list(train(other, change_one_copy, lambda start: [torch.ones(3, 2)] * 20, PLAN, folder / "other"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with socket.create_server(("127.0.0.1", 0)) as server:
        os.environ["MASTER_PORT"] = str(server.getsockname()[1])
    try:
        processes.spawn(train_together, (tmp_path_factory.mktemp("runs"),), nprocs=2)
    finally:
        del os.environ["MASTER_PORT"]
    return tmp_path_factory.getbasetemp() / "runs0"


def test_two_processes_train_as_one_does(folder, tmp_path):
    alone = run_steps(tmp_path)
    for number in range(2):
        for name, value in torch.load(folder / f"{number}.pt", weights_only=True).items():
            torch.testing.assert_close(value, alone.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_the_first_process_writes_and_each_step_is_logged_once(folder):
    for name in ("whole", "parts"):
        records = [json.loads(line) for line in (folder / name / "log.jsonl").read_text().splitlines()]
        assert [record["step"] for record in records] == [5, 10, 15, 20]
        assert {record["size"] for record in records} == {2.0}
        assert len(state_files(folder / name)) == 2
    ends = [load_state(folder / name)[0] for name in ("whole", "parts")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    assert not (folder / "alone").exists() and not state_files(folder / "other")


def test_a_process_takes_its_share_of_the_data_of_a_step():
    recipe = srm.Recipe(batch=12)
    assert own_share(recipe, 1) == recipe and own_share(recipe, 3).batch == 4
    with pytest.raises(InputError, match="--batch 12: is shared by 5 processes; give a multiple of 5"):
        own_share(recipe, 5)


def test_a_process_that_was_started_with_others_needs_their_address(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="WORLD_SIZE is 2 but RANK is not set"), distributed.process_group("cpu"):
        pass
