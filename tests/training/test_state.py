"""States of a run: whole or not there, the one before a damaged one is used, and no other recipe continues a run."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from becalm.core.files import InputError
from becalm.recipes import jets, srm
from becalm.training import state
from becalm.training.loop import Plan, train
from becalm.training.recipe_record import check_same_recipe

PLAN = Plan(steps=3, warmup=1, bfloat16=False, log_every=1, save_every=1, keep_states=3)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def run_steps(folder, plan=PLAN) -> nn.Module:
    net = model()
    batches = [torch.randn(4, 3, generator=torch.Generator().manual_seed(step)) for step in range(plan.steps)]
    list(train(net, lambda net, x: {"loss": net(x).square().mean()}, lambda start: batches[start:], plan, folder))
    return net


def damage_byte(path) -> None:
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


def cut_half(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [damage_byte, cut_half])
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(tmp_path, damage):
    whole = run_steps(tmp_path)
    latest = state.state_files(tmp_path)[0]
    damage(latest)
    with pytest.warns(UserWarning, match=rf"{latest}: .*; the run continues from step 2"):
        _, step, path = state.load_state(tmp_path)
    assert step == 2 and path.name == "00000002.safetensors"
    with warnings.catch_warnings(action="ignore"):
        again = run_steps(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    for path in state.state_files(tmp_path):
        damage(path)
    with pytest.raises(InputError, match="no other state is whole, start a new run"):
        state.load_state(tmp_path)


def test_states_of_other_versions_are_refused_with_what_they_are(tmp_path):
    run_steps(tmp_path)
    for path in state.state_files(tmp_path):
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["becalm.state"])
        save_file(load_file(path), path, {"becalm.state": json.dumps(facts | {"schema": 2})})
    with pytest.raises(InputError, match="schema: is 2, of a newer becalm"):
        state.load_state(tmp_path)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "state.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"state\.pt: is of an older version of becalm; start a new run in another"):
        state.load_state(tmp_path / "old")


def test_another_recipe_does_not_continue_a_run(tmp_path):
    recipe = srm.Recipe(run=tmp_path)
    check_same_recipe(recipe, tmp_path)
    check_same_recipe(replace(recipe, seed=9), tmp_path)  # nothing was trained yet
    run_steps(tmp_path / "stage")
    check_same_recipe(replace(recipe, seed=9, plan=replace(recipe.plan, steps=9)), tmp_path)
    changed = replace(recipe, seed=99, plan=replace(recipe.plan, learning_rate=0.1))
    with pytest.raises(
        InputError, match=r"begun with --seed 9, not 99, --learning-rate 0.002, not 0.1; .* another --run"
    ):
        check_same_recipe(changed, tmp_path)
    with pytest.raises(InputError, match="begun with recipe srm, not jets"):
        check_same_recipe(jets.Recipe(run=tmp_path), tmp_path)


WRITER = """
import sys, torch
from pathlib import Path
from becalm.training.state import save_state
for step in range(1, 100000):
    save_state(Path(sys.argv[1]), {"model.a": torch.full((40000,), float(step))}, step, 2)
    print(step, flush=True)
"""


def test_a_killed_process_leaves_whole_states_only(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
    said = [int(writer.stdout.readline()) for _ in range(3)]
    time.sleep(0.05)
    os.kill(writer.pid, signal.SIGKILL)
    said += [int(line) for line in writer.communicate()[0].split()]
    tensors, step, _ = state.load_state(tmp_path)
    assert step in (said[-1], said[-1] + 1) and (tensors["model.a"] == step).all()
    assert len(state.state_files(tmp_path)) in (2, 3)
