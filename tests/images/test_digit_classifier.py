"""The classifier learns digits it can be shown in a moment, answers no 0, owes nothing to global chance, and reads MNIST."""

import pytest
import torch

from becalm.images import digit_classifier, sudoku
from becalm.images.digits import Digits, read_mnist


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tiles():
    """Digits of 8 × 8 pixels told by which quarters are ink: the digit in binary; with some noise."""
    generator = seeded()
    labels = torch.randint(10, (1200,), generator=generator)
    quarters = (labels[:, None] >> torch.arange(4) & 1).reshape(-1, 2, 2).float()
    ink = quarters.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return Digits((ink + 0.1 * torch.rand(1200, 8, 8, generator=generator)).clamp(0, 1), labels)


@pytest.fixture(scope="module")
def reader(tiles):
    return digit_classifier.fit(tiles, 8, seeded(1), epochs=4, width=8)


def test_it_learns_what_it_is_fitted_to_but_never_answers_zero(tiles, reader):
    answers = reader.read(tiles.images.flatten(1) * 2 - 1)
    shown = tiles.labels > 0
    assert (answers == tiles.labels)[shown].double().mean() > 0.98
    assert answers.min() == 1


def test_confidence_is_the_log_odds_of_the_label(tiles, reader):
    cells = tiles.images.flatten(1) * 2 - 1
    with torch.inference_mode():
        everything = reader(cells)
    torch.testing.assert_close(everything.exp().sum(-1), torch.ones(1200))
    odds = everything.double().exp()[torch.arange(1200), tiles.labels].logit()
    usual = odds < 10  # beyond, 1 − p has few digits
    torch.testing.assert_close(
        digit_classifier.label_log_odds(reader, tiles)[usual], odds.float()[usual], rtol=1e-2, atol=1e-2
    )
    assert digit_classifier.label_log_odds(reader, tiles).isfinite().all()
    wrong = Digits(tiles.images, (tiles.labels + 5) % 10)
    assert (
        digit_classifier.label_log_odds(reader, wrong).mean()
        < digit_classifier.label_log_odds(reader, tiles).mean() - 1
    )


def test_the_same_generator_gives_the_same_classifier_and_the_global_one_is_left_alone(tiles):
    before = torch.random.get_rng_state()
    few = tiles.select(torch.arange(256))
    one = digit_classifier.fit(few, 8, seeded(4), epochs=1, width=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(7)
    other, third = (digit_classifier.fit(few, 8, seeded(seed), epochs=1, width=4) for seed in (4, 5))
    cells = few.images.flatten(1) * 2 - 1
    assert torch.equal(one(cells), other(cells))
    assert not torch.allclose(one(cells), third(cells))


def test_a_cell_is_read_alike_alone_and_among_others(tiles, reader):
    cells = (tiles.images[:90].flatten(1) * 2 - 1).reshape(2, 45, 64)
    answers = reader.read(cells)
    assert answers.shape == (2, 45) and int(reader.read(cells[1, 3])) == int(answers[1, 3])


def test_cells_of_another_side_are_refused(reader):
    with pytest.raises(ValueError, match="7 pixels a side, but this classifier was fitted to 8"):
        reader.read(torch.zeros(2, 81, 49))


def test_moved_digits_keep_most_of_their_ink_and_stay_put_on_average():
    image = torch.zeros(1, 28, 28)
    image[0, 10:18, 10:18] = 1
    copies = digit_classifier.augment(image.expand(2000, 28, 28), seeded())
    assert (copies.sum((1, 2)) / 64 - 1).abs().max() < 0.35
    middle = (copies * torch.arange(28.0)).sum((1, 2)) / copies.sum((1, 2))
    assert (middle.mean() - 13.5).abs() < 0.1 and 0.8 < middle.std() < 1.6
    assert copies[0].ne(copies[1]).any()


def test_mnist_is_read_well_after_a_moment(shared):
    train, test = read_mnist(shared("data/mnist.npz"))
    reader = digit_classifier.fit(train.select(torch.arange(12000)), 14, seeded(), epochs=1, width=16)
    grids = sudoku.sample_grids(9, 20, "test", seeded())
    right = reader.read(sudoku.sample_cells(grids, test.shrink_to(14), seeded())) == grids
    assert right.double().mean() > 0.95
    best = digit_classifier.clearest_digits(reader, test, 100)
    chosen = reader.read(sudoku.sample_cells(grids, best, seeded()))
    assert sudoku.is_valid(chosen).double().mean() > 0.9 and (chosen == grids).double().mean() > 0.999
