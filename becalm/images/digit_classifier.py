"""Fitting the classifier of digits, and the digits that it is most confident of; deterministic given a generator."""

from math import pi

import torch
from torch.nn import functional as F

from becalm.core.typing import Float, Tensor
from becalm.images.digits import Digits, top_per_class
from becalm.images.grid import shrink
from becalm.nets.digit_classifier import DigitClassifier, init_weights
from becalm.nets.precision import fast_matmul

BATCH = 128
RATE = 1e-2
"""Highest learning rate of the one-cycle schedule."""


def fit(
    digits: Digits, side: int, generator: torch.Generator, epochs: int | None = None, width: int = 32
) -> DigitClassifier:
    """A classifier of cells of a side, fitted to slightly augmented copies of these digits; the same for the same generator.

    Cross-entropy by AdamW under a one-cycle learning rate; 4 epochs, or as many as show 30 000 digits. Fit it to
    digits that are in no puzzle, unless the reference's protocol, which shares them, is what is wanted.
    """
    with torch.random.fork_rng(devices=[]):
        # torch's own initialisation draws from the global generator, which stays as it was
        classifier = DigitClassifier(side, width)
    init_weights(classifier, generator)
    epochs = epochs or max(4, -(-30_000 // len(digits)))
    steps = -(-epochs * len(digits) // BATCH)
    optimiser = torch.optim.AdamW(classifier.parameters(), weight_decay=1e-2)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.25)
    order = torch.cat([torch.randperm(len(digits), generator=generator) for _ in range(epochs)])
    for step in range(steps):
        chosen = order[step * BATCH : (step + 1) * BATCH]
        # augmented first, made smaller afterwards: what is read later has not been blurred twice either
        cells = shrink(augment(digits.images[chosen], generator).flatten(1), side) * 2 - 1
        with fast_matmul("cpu"):
            output = classifier(cells)
        loss = F.nll_loss(output, digits.labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    return classifier.eval().requires_grad_(False)


@torch.inference_mode()
def label_log_odds(classifier: DigitClassifier, digits: Digits) -> Float[Tensor, "digit"]:
    """log p/(1 − p) of each digit's label, which orders digits near certainty, whose p are all 1 in float32."""
    cells = shrink(digits.images.flatten(1), classifier.side) * 2 - 1
    log_probability = torch.cat([classifier(part) for part in cells.split(1024)])
    own = torch.arange(10) == digits.labels[:, None]
    return log_probability[own] - log_probability.masked_fill(own, -torch.inf).logsumexp(1)


def clearest_digits(classifier: DigitClassifier, digits: Digits, per_class: int) -> Digits:
    """The digits of each class that the classifier is most confident of, `per_class` of each, at the side that it reads."""
    return top_per_class(digits, label_log_odds(classifier, digits), per_class).shrink_to(classifier.side)


def augment(
    images: Float[Tensor, "digit height width"], generator: torch.Generator
) -> Float[Tensor, "digit height width"]:
    """Copies turned by up to 10°, sheared and stretched by up to a tenth and shifted by up to a fourteenth of the side."""
    u = torch.rand(6, len(images), generator=generator) * 2 - 1
    angle = u[0] * pi / 18
    row = torch.stack([torch.cos(angle) * (1 + u[1] / 10), -torch.sin(angle) + u[2] / 10, u[3] / 7], 1)
    column = torch.stack([torch.sin(angle), torch.cos(angle) * (1 + u[4] / 10), u[5] / 7], 1)
    places = F.affine_grid(torch.stack([row, column], 1), [len(images), 1, *images.shape[1:]], align_corners=False)
    return F.grid_sample(images[:, None], places, align_corners=False)[:, 0]
