"""Distorted digits: what does not change, what is shared on a sheet, and each kind of distortion by itself."""

import pytest
import torch

from becalm.images import handwriting

ZERO = torch.zeros(6)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bars(count: int) -> torch.Tensor:
    """Upright bars, four pixels wide."""
    images = torch.zeros(count, 28, 28)
    images[:, 6:22, 12:16] = 1
    return images


def sheets(count: int, each: int) -> torch.Tensor:
    return torch.arange(count).repeat_interleave(each)


def test_without_strength_digits_stay_and_a_third_of_the_sheets_is_plain_with_it():
    images, sheet = torch.rand(600, 28, 28, generator=seeded()), sheets(300, 2)
    torch.testing.assert_close(handwriting.write_on_sheets(images, sheet, seeded(), 0.0), images, atol=1e-4, rtol=0)
    changed = (handwriting.write_on_sheets(bars(600), sheet, seeded()) - bars(600)).abs().amax((1, 2)) > 1e-3
    assert torch.equal(changed[::2], changed[1::2])
    assert 0.55 < changed.double().mean() < 0.78


def test_values_stay_ink_and_the_same_generator_draws_the_same():
    images, sheet = bars(40), sheets(4, 10)
    one, again, other = (handwriting.write_on_sheets(images, sheet, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.min() >= 0 and one.max() <= 1
    assert handwriting.write_on_sheets(images[:0], sheet[:0], seeded()).shape == (0, 28, 28)


def test_digits_of_a_sheet_are_alike_in_slant_and_ink():
    written = handwriting.write_on_sheets(bars(2000), sheets(100, 20), seeded()).reshape(100, 20, 28, 28)
    ink = written.sum((2, 3))
    assert ink.mean(1).var() > 3 * ink.var(1).mean()


@pytest.mark.parametrize(("axis", "name", "pixels"), [(4, "right", 2.8), (5, "down", 2.8)])
def test_a_shift_moves_the_middle(axis, name, pixels):
    moved = handwriting.move(bars(1), torch.where(torch.arange(6) == axis, 0.1, ZERO)[None])[0]
    place = torch.arange(28.0)
    middle = {"right": (moved * place).sum() / moved.sum(), "down": (moved.T * place).sum() / moved.sum()}
    assert middle[name] - 13.5 == pytest.approx(pixels, abs=0.05)
    assert middle["down" if name == "right" else "right"] == pytest.approx(13.5, abs=0.05)


def test_slant_leans_to_the_right_at_the_top_and_size_multiplies_ink():
    leaning = handwriting.move(bars(1), torch.tensor([[0, 0.3, 0, 0, 0, 0]]))[0]
    middle = (leaning * torch.arange(28.0)).sum(1) / leaning.sum(1).clamp_min(1e-6)
    assert middle[7] - middle[20] == pytest.approx(0.3 * 13, abs=0.2)
    wide = handwriting.move(bars(1), torch.tensor([[0, 0, 0.2, 0.1, 0, 0]]))[0]
    assert wide.sum() / bars(1).sum() == pytest.approx(torch.tensor(0.3).exp().item(), rel=0.03)


def test_thickness_grows_and_falls_with_its_amount_and_never_loses_the_digit():
    thin, same, thick = handwriting.change_thickness(bars(3), torch.tensor([-1.0, 0.0, 1.0]))
    assert torch.equal(same, bars(1)[0])
    assert thick.sum() == bars(1).sum() + 2 * (16 + 4)
    assert thin.sum() < 0.8 * same.sum() and thin.max() == 1
    hair = torch.zeros(1, 28, 28)
    hair[0, 5:20, 14] = 1
    assert handwriting.change_thickness(hair, torch.tensor([-1.0]))[0, 10, 14] > 0.5


def test_a_third_of_the_sheets_is_squared_with_lines_at_the_spacing_of_the_sheet():
    lines = handwriting.squares(sheets(300, 3), 300, (28, 28), seeded()).reshape(300, 3, 28, 28)
    squared = lines.amax((1, 2, 3)) > 0
    assert 0.23 < squared.double().mean() < 0.44
    covered = (lines[squared] > 0.5).double().mean((2, 3))
    assert ((covered - covered.mean(1, keepdim=True)).abs() < 0.1).all()
    assert (covered > 0.02).all() and (covered < 0.35).all()


def test_a_sheet_at_level_zero_is_clean_and_others_have_paper():
    seen = handwriting.scan(bars(2), torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), seeded())
    assert torch.equal(seen[0], bars(1)[0])
    assert seen[1, :4].mean() > 0 and (seen[1] - bars(1)[0]).abs().max() > 0.05
