"""The training loop: it learns, it resumes exactly, and its log tells each step once."""

import json

import pytest
import torch
from torch import nn

from becalm.training import average, log
from becalm.training.loop import Plan, learning_rate_at, train
from becalm.training.prefetch import prefetch
from becalm.training.state import state_files

PLAN = Plan(steps=12, learning_rate=1e-2, warmup=3, ema_decay=0.9, bfloat16=False, log_every=2, save_every=4)


def batch(step: int) -> torch.Tensor:
    return torch.randn(8, 3, generator=torch.Generator().manual_seed(step))


def batches(start: int):
    return prefetch(batch, start, workers=0)


def loss(model, x):
    return {"loss": (model(x) - x.sum(1, keepdim=True)).square().mean()}


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))


def steps(folder):
    return [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_cut_run_continues_exactly(tmp_path):
    whole, cut, resumed = model(), model(), model()
    list(train(whole, loss, batches, PLAN, tmp_path / "whole"))
    for record in train(cut, loss, batches, PLAN, tmp_path / "cut"):
        if record["step"] == 6:
            break
    assert [path.name for path in state_files(tmp_path / "cut")] == ["00000004.safetensors"]
    list(train(resumed, loss, batches, PLAN, tmp_path / "cut"))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert steps(tmp_path / "whole") == steps(tmp_path / "cut") == [2, 4, 6, 8, 10, 12]
    assert [path.name for path in state_files(tmp_path / "whole")] == ["00000012.safetensors", "00000008.safetensors"]


def test_it_learns(tmp_path):
    plan = Plan(steps=300, learning_rate=2e-2, warmup=10, ema_decay=0.9, bfloat16=False, log_every=50, save_every=300)
    records = list(train(model(), loss, batches, plan, tmp_path))
    assert records[-1]["loss"] < 0.1 * records[0]["loss"]
    assert records[-1]["gflops"] >= 0
    assert records[0]["seconds_left"] >= 0


def test_the_rate_rises_then_falls_along_a_cosine():
    rates = [learning_rate_at(PLAN, step) for step in range(PLAN.steps + 1)]
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(PLAN.final_rate_fraction * PLAN.learning_rate)


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path):
    def broken(net, x):
        return {"loss": net(x).mean() * float("nan")}

    net = model()
    before = [p.clone() for p in net.parameters()]
    records = list(train(net, broken, batches, PLAN, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert records[0]["skipped"] == 1


def test_the_state_of_another_model_is_refused(tmp_path):
    list(train(model(), loss, batches, PLAN, tmp_path))
    with pytest.raises(ValueError, match="another model"):
        list(train(nn.Sequential(nn.Linear(3, 2)), loss, batches, PLAN, tmp_path))


def test_the_average_follows_the_weights():
    net = nn.Linear(1, 1)
    kept = average.copy_weights(net)
    start = kept["weight"].clone()
    with torch.no_grad():
        net.weight += 1
    average.update_average(kept, net, decay=0.9, step=10**6)
    assert torch.allclose(kept["weight"], start + 0.1)


def test_a_half_written_last_line_is_dropped(tmp_path):
    path = tmp_path / "log.jsonl"
    log.append_record(path, {"step": 1})
    log.append_record(path, {"step": 5})
    path.write_text(path.read_text() + '{"step": 6, "lo')
    log.drop_records_after(path, 4)
    assert path.read_text() == '{"step": 1}\n'


def test_items_made_ahead_come_in_order():
    items = prefetch(batch, 5, workers=1, ahead=2)
    for step in range(5, 9):
        assert torch.equal(next(items), batch(step))
    items.close()
