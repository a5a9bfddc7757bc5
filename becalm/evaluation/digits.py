"""Evaluation of generated digits: how far they are from real ones, by the features of becalm's own digit classifier."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch

from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.core.typing import Float, Tensor
from becalm.images.digits import Digits
from becalm.images.grid import shrink
from becalm.nets.digit_classifier import DigitClassifier
from becalm.nets.precision import fast_matmul
from becalm.tasks.generate import Generator, Images, generate

SAMPLERS = (Sampler(25, "ddim"), Sampler(25, "dpm"), Sampler(250, "ancestral"))
"""The samplers that are compared."""

SURE = 0.9
"""A digit is clear where the classifier gives some class more than this probability."""


class Row(NamedTuple):
    """How near one set of images is to real digits."""

    images: str
    """`real`, or the sampler and its steps."""
    number: int
    """Images in the set."""
    frechet: float
    """`frechet_distance` between their features and those of the real digits of the reference."""
    clear: float
    """Share of them of which the classifier is sure."""
    seconds: float
    """Seconds an image."""


def evaluate_samplers(
    model: Generator, classifier: DigitClassifier, digits: Digits, number: int, seed: int = 0
) -> Iterator[Row]:
    """A row for `number` real digits, then one for as many of each sampler; the reference is the rest of the real digits.

    The distance of the real ones is what chance leaves: it falls with the number. Raises InputError for too few digits.
    """
    if number < 2 or len(digits) < 2 * number:
        raise InputError(f"images: {number}; from 2 to {len(digits) // 2} can be compared, half of the real digits")
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(seed))
    real = digits.select(order[:number]).images
    reference, _ = features_and_clarity(classifier, digits.select(order[number:]).images)

    def measure(name: str, images: Tensor, started: float) -> Row:
        seconds = (time.time() - started) / number
        features, clear = features_and_clarity(classifier, images)
        return Row(name, number, frechet_distance(features, reference), float((clear > SURE).float().mean()), seconds)

    yield measure("real", real, time.time())
    for sampler in SAMPLERS:
        started = time.time()
        made = generate(model, number, sampler=sampler, seed=seed)  # type: ignore[arg-type]
        if not isinstance(made, Images):
            raise InputError("model: makes shapes; give one of images")
        if made.images.shape[-1] != 1:
            raise InputError("model: its images are coloured; digits are compared with grey ones")
        ink = torch.as_tensor(made.images[..., 0]).float() / (made.levels - 1)
        yield measure(f"{sampler.update}, {sampler.steps} steps", ink, started)


@torch.inference_mode()
def features_and_clarity(
    classifier: DigitClassifier, images: Float[Tensor, "image height width"]
) -> tuple[Float[Tensor, "image feature"], Float[Tensor, " image"]]:
    """The classifier's last feature maps, averaged over the image, and its greatest probability; ink from 0 to 1.

    Images larger than the classifier's are shrunk to it by area.
    """
    if images.shape[-1] < classifier.side:
        raise InputError(f"images: {images.shape[-1]} pixels a side; the classifier reads {classifier.side}")
    maps: list[Tensor] = []
    handle = classifier.norms[-1].register_forward_hook(lambda module, given, output: maps.append(output.relu()))
    try:
        with fast_matmul(images.device.type):
            cells = 2 * shrink(images.flatten(1), classifier.side) - 1
            log_probabilities = torch.cat([classifier(part) for part in cells.split(1024)])
    finally:
        handle.remove()
    return torch.cat(maps).float().mean((2, 3)), log_probabilities.max(1).values.exp()


def frechet_distance(one: Float[Tensor, "image feature"], two: Float[Tensor, "other feature"]) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁C₂)^½) of two sets of features (Heusel et al. 2017), here of a classifier of digits.

    Figures compare with each other alone, not with those of the Inception network.
    """
    one, two = one.double(), two.double()
    gap = (one.mean(0) - two.mean(0)).square().sum()
    covariances = torch.cov(one.T), torch.cov(two.T)
    # The eigenvalues of a product of two covariances are real and not negative, but for rounding.
    root = torch.linalg.eigvals(covariances[0] @ covariances[1]).real.clamp_min(0).sqrt().sum()
    return float(gap + covariances[0].trace() + covariances[1].trace() - 2 * root)
