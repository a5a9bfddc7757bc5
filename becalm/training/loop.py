"""The training loop, to be read in one sitting: AdamW, warm-up and cosine, an averaged copy, a log, exact resume."""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from becalm.core.files import InputError
from becalm.core.typing import Tensor
from becalm.training import average as averages
from becalm.training import distributed, log, state
from becalm.training.flops import flop_counter


@dataclass(frozen=True)
class Plan:
    """Training configuration: steps, learning rate, regularisation, logging."""

    steps: int = 10_000
    """Total optimiser steps; the cosine ends here."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    final_rate_fraction: float = 0.02
    """Final learning rate as a fraction of the peak."""
    warmup: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay, applied to matrices only."""
    gradient_clip: float = 1.0
    """Greatest gradient norm (clipping)."""
    ema_decay: float = 0.999
    """Decay of the weights' moving average."""
    bfloat16: bool = True
    """Matrix products in bfloat16 under autocast; weights and optimiser stay float32."""
    log_every: int = 20
    """Steps between records of the log."""
    save_every: int = 200
    """Steps between saved states."""
    keep_states: int = 2
    """Saved states that are kept."""


def learning_rate_at(plan: Plan, step: int) -> float:
    """Linear warm-up, then half a cosine from the peak to `final_rate_fraction` of it at the last step."""
    if step < plan.warmup:
        return plan.learning_rate * (step + 1) / plan.warmup
    progress = min((step - plan.warmup) / max(plan.steps - plan.warmup, 1), 1.0)
    return plan.learning_rate * (
        plan.final_rate_fraction + (1 - plan.final_rate_fraction) * (1 + math.cos(math.pi * progress)) / 2
    )


def make_optimiser(model: nn.Module, plan: Plan) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, none on vectors and scalars."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=(0.9, 0.99))


def train(
    model: nn.Module,
    loss: Callable[[Any, Any], dict[str, Tensor]],
    batches: Callable[[int], Iterable[Any]],
    plan: Plan,
    run: Path,
) -> Iterator[dict]:
    """Train `model` in place and yield a record every `log_every` steps; the folder `run` holds the log and the state.

    `batches(start)` yields the batch of step `start` and of each one after: a pure function of the step, which makes
    resume exact. `loss(model, batch)` returns its terms by name, of which "loss" is differentiated. Where `run` holds a state,
    training continues from it. The averaged weights are left in the model when the last step is done.
    """
    distributed.check_processes()
    first = distributed.process_number() == 0
    optimiser, average = make_optimiser(model, plan), averages.copy_weights(model)
    start = resume(run, model, optimiser, average)
    meter = Meter(plan, start)
    for step, batch in zip(range(start, plan.steps), batches(start), strict=False):
        meter.flops = meter.flops or count_flops(model, loss, batch, plan)
        terms = training_step(model, loss, batch, optimiser, plan, step)
        averages.update_average(average, model, plan.ema_decay, step)
        record = meter.record(step + 1, terms)
        if record:
            if first:
                log.append_record(run / "log.jsonl", record)
            yield record
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            distributed.check_copies(model, step + 1)
            if first:
                state.save_state(run, state.state_tensors(model, optimiser, average), step + 1, plan.keep_states)
    model.load_state_dict(average)


def resume(run: Path, model: nn.Module, optimiser: torch.optim.Optimizer, average: dict[str, Tensor]) -> int:
    """Continue from the latest state in the folder of a run, if there is one; returns the number of steps done.

    All processes begin with what the first one has. Raises InputError for the state of another model.
    """
    found = None
    if distributed.process_number() == 0:
        run.mkdir(parents=True, exist_ok=True)
        found = state.load_state(run)
        log.drop_records_after(run / "log.jsonl", found[1] if found else 0)
    if found is None and distributed.process_count() > 1:
        found = state.state_tensors(model, optimiser, average), 0, run
    found = distributed.from_first(found)
    if found is None:
        return 0
    tensors, step, path = found
    try:
        state.restore_state(tensors, model, optimiser, average)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return step


def training_step(
    model: nn.Module, loss: Callable, batch: Any, optimiser: torch.optim.Optimizer, plan: Plan, step: int
) -> dict:
    """One update of the weights; returns the loss terms. A step with a non-finite gradient is skipped (term `skipped` = 1)."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate_at(plan, step)
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=plan.bfloat16):
        terms = loss(model, batch)
    optimiser.zero_grad(set_to_none=True)
    terms["loss"].backward()
    distributed.average_gradients(model)
    norm = nn.utils.clip_grad_norm_(model.parameters(), plan.gradient_clip)
    finite = bool(torch.isfinite(norm))
    if finite:
        optimiser.step()
    return {name: float(value.detach()) for name, value in terms.items()} | {"skipped": float(not finite)}


def count_flops(model: nn.Module, loss: Callable, batch: Any, plan: Plan) -> float:
    """Floating-point operations of one step's loss and gradient.

    Counted on a copy of the model: under the counter some derivatives round differently, which would break exact resume.
    """
    twin, device = copy.deepcopy(model), next(model.parameters()).device.type
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"), flop_counter() as counter:
        with torch.autocast(device, torch.bfloat16, enabled=plan.bfloat16):
            terms = loss(twin, batch)
        terms["loss"].backward()
    return float(counter.get_total_flops()) or 1.0


class Meter:
    """Running means of the loss terms, speed, FLOP rate and time left since the last record."""

    def __init__(self, plan: Plan, start: int):
        self.plan, self.flops, self.last_time, self.last_step = plan, 0.0, time.time(), start
        self.sums: dict[str, float] = {}

    def record(self, step: int, terms: dict) -> dict | None:
        """Add one step's terms; return a record every `log_every` steps, None otherwise."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        count = step - self.last_step
        if step % self.plan.log_every and step != self.plan.steps:
            return None
        seconds = (time.time() - self.last_time) / count
        means = distributed.mean_over_processes({name: value / count for name, value in self.sums.items()})
        self.sums, self.last_step, self.last_time = {}, step, time.time()
        return {
            "step": step,
            **means,
            "rate": learning_rate_at(self.plan, step),
            "seconds_per_step": round(seconds, 4),
            "gflops": round(self.flops / seconds / 1e9, 2),
            "seconds_left": round(seconds * (self.plan.steps - step)),
        }
