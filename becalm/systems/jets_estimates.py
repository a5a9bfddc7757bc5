"""How `jets` learns what it says beside the displacement: noise, its error, and what is no surface.

Gradients of the displacement are 20 to 1 000 times as long as those of these estimates, and few clouds have leaves or wires:
while all is trained, one cloud a step, they are hardly learned. So they are trained afterwards, on points of many clouds mixed.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import nn

from becalm.core.typing import Float, Int, Tensor
from becalm.nets.blend import BlendOutput
from becalm.systems.jets import Jets
from becalm.systems.jets_fits import residual_noise
from becalm.systems.jets_training import LOSS_WEIGHTS, EstimateTargets, TrainingItem, estimate_targets, estimate_terms

RARE_WEIGHT = 8.0
"""Weight of points that are no surface: few in what is learned from, many in a forest."""


class EstimateRows(NamedTuple):
    """Points of training clouds: what the estimates follow from, and the truth."""

    inputs: Float[Tensor, "row feature"]
    """Input of the model's last layer."""
    base: Float[Tensor, " row"]
    """The logarithm of the noise variance that the fits tell, to which those of the model are relative."""
    truth: EstimateTargets
    surface: Float[Tensor, " row"]
    """1 for points of surfaces, 0 for others."""
    counted: Float[Tensor, " row"]
    """1 for points of surfaces whose neighbourhood no border of the item cuts."""


@torch.no_grad()
def estimate_rows(model: Jets, item: TrainingItem, known_sigma: bool) -> EstimateRows:
    """The rows of an item's points; those that are not finite are left out, as one of them would spoil all that is learned."""
    inputs: list[Tensor] = []
    handle = model.network.leave.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    try:
        output = model(item.cloud, item.sigma if known_sigma else torch.full_like(item.sigma, torch.nan))
    finally:
        handle.remove()
    error = (item.noisy + output.displacement - item.clean).square().sum(-1)
    base = 2 * residual_noise(item.cloud).log()
    truth = estimate_targets(item, error)
    rows = EstimateRows(inputs[-1], base, truth, item.surface, item.surface * item.interior)
    finite = torch.stack([x.isfinite() for x in (rows.inputs.sum(1), base, *truth)]).all(0)
    return take_rows(rows, finite.nonzero()[:, 0])


def random_rows(rows: EstimateRows, most: int, generator: torch.Generator) -> EstimateRows:
    """At most so many of the rows: many points of few clouds teach less than a few points of many."""
    return take_rows(rows, torch.randperm(len(rows.base), generator=generator)[:most])


def take_rows(rows: EstimateRows, chosen: Int[Tensor, " row"]) -> EstimateRows:
    """The rows with these numbers."""
    truth = EstimateTargets._make(part[chosen] for part in rows.truth)
    return EstimateRows(rows.inputs[chosen], rows.base[chosen], truth, rows.surface[chosen], rows.counted[chosen])


def merge_rows(parts: Iterable[EstimateRows]) -> EstimateRows:
    """Rows of several items, one after another."""
    inputs, base, truth, surface, counted = zip(*parts, strict=True)
    truths = EstimateTargets._make(torch.cat(part) for part in zip(*truth, strict=True))
    return EstimateRows(torch.cat(inputs), torch.cat(base), truths, torch.cat(surface), torch.cat(counted))


def row_loss(leave: nn.Module, rows: EstimateRows) -> dict[str, Tensor]:
    """The mean terms of the estimates over rows, and their weighted sum as "loss"."""
    log_var, log_noise, shared, log_length, surface = leave(rows.inputs).unbind(-1)
    output = BlendOutput(rows.inputs, rows.base + log_var, rows.base + log_noise, shared, log_length, surface)
    count = rows.counted.sum().clamp_min(1)
    terms = {name: (x * rows.counted).sum() / count for name, x in estimate_terms(output, rows.truth).items()}
    weight = torch.where(rows.surface > 0, 1.0, RARE_WEIGHT)
    entropy = nn.functional.binary_cross_entropy_with_logits(surface, rows.surface, weight, reduction="sum")
    terms["surface"] = entropy / weight.sum()
    return terms | {"loss": torch.stack([LOSS_WEIGHTS[name] * value for name, value in terms.items()]).sum()}


def train_estimates(model: Jets, rows: EstimateRows, steps: int, seed: int, size: int = 8192) -> Iterator[dict]:
    """Train the model's last layer in place on `size` random rows a step, yielding a record every 200 steps."""
    leave, generator = model.network.leave, torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(leave.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        terms = row_loss(leave, take_rows(rows, torch.randint(len(rows.base), (size,), generator=generator)))
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        schedule.step()
        if (step + 1) % 200 == 0 or step + 1 == steps:
            yield {"estimate step": step + 1} | {name: round(float(x.detach()), 4) for name, x in terms.items()}
