"""The recipe of the digit classifier: batches by the step, resume, and scores on digits as they are and distorted."""

from dataclasses import replace

import numpy as np
import torch

from becalm.images.digits import Digits
from becalm.nets.digit_classifier import DigitClassifier
from becalm.recipes import reader
from becalm.training.loop import Plan
from becalm.weights.packaged import metadata
from becalm.weights.store import load

SMALL = reader.Recipe(pixels=4, width=4, batch=32, plan=Plan(steps=60, learning_rate=2e-2, warmup=5, ema_decay=0.9))


def quarters(count: int) -> Digits:
    """Digits of 8 × 8 pixels told apart by which quarters are ink: the digit in binary."""
    labels = torch.arange(count) % 10
    parts = (labels[:, None] >> torch.arange(4) & 1).reshape(-1, 2, 2).float()
    return Digits(parts.repeat_interleave(4, 1).repeat_interleave(4, 2), labels)


def mnist_of_quarters(path):
    """A file as MNIST's."""
    digits = quarters(200)
    images, labels = (digits.images * 255).byte().numpy(), digits.labels.byte().numpy()
    np.savez(path, x_train=images, y_train=labels, x_test=images[:50], y_test=labels[:50])
    return path


def test_a_batch_is_a_function_of_seed_and_step():
    one, again, other = (reader.make_batch(SMALL, quarters(100), step) for step in (1, 1, 2))
    assert torch.equal(one.cells, again.cells) and torch.equal(one.labels, again.labels)
    assert not torch.equal(one.cells, other.cells)
    assert one.cells.shape == (32, 16) and one.cells.min() >= -1 and one.cells.max() <= 1


def test_it_learns_says_how_well_and_resumes_exactly(tmp_path):
    recipe = replace(SMALL, digits=mnist_of_quarters(tmp_path / "mnist.npz"), run=tmp_path / "whole")
    recipe = replace(recipe, plan=replace(recipe.plan, log_every=20, save_every=20))
    records = list(reader.run(recipe))
    assert records[-1]["right"] > 0.95 and 0.5 < records[-1]["right_distorted"] <= 1
    assert metadata(tmp_path / "whole" / "reader4.safetensors")["right_distorted"] == records[-1]["right_distorted"]
    parts = replace(recipe, run=tmp_path / "parts")
    for _, _ in zip(range(2), reader.run(parts), strict=False):
        pass
    list(reader.run(parts))
    whole, resumed = (load(r.run / "reader4.safetensors", DigitClassifier).state_dict() for r in (recipe, parts))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
