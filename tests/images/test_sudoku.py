"""Grids are valid, their split is a function of the grid that symmetries keep, and what is drawn can be recovered."""

import pytest
import torch

from becalm.images import sudoku
from becalm.images.digits import Digits


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def grids():
    return sudoku.fill_grids(200, seeded())


@pytest.fixture
def pool():
    """Digits whose every pixel tells which they are: label + copy/100, scaled into [0, 1]."""
    labels = torch.arange(10).repeat(20)
    ink = (labels + torch.arange(20).repeat_interleave(10) / 100) / 10
    return Digits(ink[:, None, None].expand(200, 3, 3).contiguous(), labels)


def house_by_house(grid: list[int], side: int) -> int:
    """`distance`, the slow and obvious way."""
    box, total = int(side**0.5), 0
    for i in range(side):
        row = grid[i * side : (i + 1) * side]
        column = grid[i::side]
        corner = i // box * box * side + i % box * box
        square = [grid[corner + r * side + c] for r in range(box) for c in range(box)]
        total += sum(abs(house.count(d) - 1) for house in (row, column, square) for d in range(1, side + 1))
    return total


@pytest.mark.parametrize("side", [4, 9])
def test_distance_and_validity_agree_with_the_obvious_count(side):
    random = torch.randint(0, side + 3, (30, side * side), generator=seeded())
    right = sudoku.sample_grids(side, 5, "train", seeded())
    both = torch.cat([random, right])
    expected = [house_by_house(grid, side) for grid in both.tolist()]
    assert sudoku.distance(both).tolist() == expected
    assert sudoku.is_valid(both).tolist() == [d == 0 for d in expected]
    assert sudoku.is_valid(right).all() and not sudoku.is_valid(random).any()


@pytest.mark.parametrize("side", [4, 9])
def test_one_wrong_cell_is_found_with_its_distance_and_its_conflicts(side):
    grid = sudoku.sample_grids(side, 1, "train", seeded())
    wrong = grid.clone()
    wrong[0, 5] = wrong[0, 5] % side + 1
    assert not sudoku.is_valid(wrong) and sudoku.distance(wrong) == 6
    found = sudoku.conflicts(wrong)[0]
    same = (wrong[0] == wrong[0, 5]) & sudoku.peers(side)[5]
    assert torch.equal(found, same | (torch.arange(side * side) == 5)) and same.any()
    wrong[0, 5] = 0
    assert not sudoku.conflicts(wrong).any()


@pytest.mark.parametrize("side", [4, 9])
def test_every_cell_lies_in_three_houses_of_its_side(side):
    houses = sudoku.houses(side)
    assert houses.sum(0).unique().tolist() == [3] and houses.sum(1).unique().tolist() == [side]
    shared = (houses.double().T @ houses.double() > 0) & ~torch.eye(side * side, dtype=torch.bool)
    assert torch.equal(shared, sudoku.peers(side))
    assert sudoku.places(9)[50].tolist() == [5, 5, 4] and sudoku.places(4)[6].tolist() == [1, 2, 1]


def test_all_grids_of_side_four_are_there_once_and_split_for_good():
    grids = sudoku.all_small_grids()
    assert grids.shape == (288, 16) and len(grids.unique(dim=0)) == 288 and sudoku.is_valid(grids).all()
    held = sudoku.held_out(grids)
    assert held.sum() == 56 and (~held).sum() == 232
    order = torch.randperm(288, generator=seeded())
    assert torch.equal(sudoku.held_out(grids[order]), held[order])
    assert grids[held][0].tolist() == [1, 2, 3, 4, 3, 4, 1, 2, 2, 1, 4, 3, 4, 3, 2, 1]


def test_filled_grids_are_valid_and_differ(grids):
    assert sudoku.is_valid(grids).all() and len(grids.unique(dim=0)) == 200
    assert len(sudoku.fingerprint(grids).unique()) > 190
    first = torch.bincount(grids[:, 40], minlength=10)[1:]
    assert first.min() > 5  # 22 ± 4.4 expected


def test_symmetric_images_are_valid_and_share_their_fingerprint(grids):
    images = sudoku.permute_grids(grids, seeded())
    assert sudoku.is_valid(images).all() and not (images == grids).all(1).any()
    assert torch.equal(sudoku.fingerprint(images), sudoku.fingerprint(grids))
    square = grids.reshape(-1, 9, 9)
    assert torch.equal(sudoku.fingerprint(square.transpose(1, 2).reshape(-1, 81)), sudoku.fingerprint(grids))


def test_symmetric_images_use_every_symmetry(grids):
    # one grid shuffled often: every digit reaches every cell equally often
    images = sudoku.permute_grids(grids[:1].expand(9000, 81), seeded())
    counts = (images[:, :, None] == torch.arange(1, 10)).sum(0)
    assert counts.min() > 830 and counts.max() < 1170  # 1000 ± 30 expected
    corner = images.reshape(-1, 9, 9)[:, :2, :2].reshape(-1, 4)
    assert len(corner.unique(dim=0)) > 2000


@pytest.mark.parametrize("side", [4, 9])
def test_parts_never_meet_and_depend_on_the_generator_alone(side):
    train, test = (sudoku.sample_grids(side, 500, part, seeded(5)) for part in ("train", "test"))
    assert sudoku.is_valid(torch.cat([train, test])).all()
    assert not sudoku.held_out(train).any() and sudoku.held_out(test).all()
    assert torch.equal(train, sudoku.sample_grids(side, 500, "train", seeded(5)))
    assert not torch.equal(train, sudoku.sample_grids(side, 500, "train", seeded(6)))


def test_about_a_tenth_is_held_out():
    share = sudoku.held_out(sudoku.fill_grids(400, seeded(1))).double().mean()
    assert 0.04 < share < 0.17  # ± 0.015


@pytest.mark.parametrize(("side", "fewest", "most"), [(9, *sudoku.GIVEN["hard"]), (9, 54, 80), (4, 0, 16), (4, 7, 7)])
def test_masks_give_every_number_and_every_cell_equally(side, fewest, most):
    given = sudoku.sample_masks(side, 4000, fewest, most, seeded())
    number = given.sum(1)
    counts = torch.bincount(number, minlength=most + 1)[fewest:]
    expected = 4000 / (most - fewest + 1)
    assert number.min() == fewest and number.max() == most
    assert ((counts - expected).abs() < 5 * expected**0.5 + 1).all()
    share = given.double().mean(0)
    assert (share - (fewest + most) / 2 / side**2).abs().max() < 0.045


def test_masks_refuse_an_impossible_number():
    with pytest.raises(ValueError, match="0 to 16"):
        sudoku.sample_masks(4, 3, 4, 17, seeded())


def test_drawn_grids_can_be_read_again_and_cells_are_independent(pool):
    grids = sudoku.sample_grids(9, 50, "test", seeded())
    cells = sudoku.sample_cells(grids, pool, seeded())
    assert cells.shape == (50, 81, 9) and cells.min() >= -1 and cells.max() <= 1
    ink = (cells[..., 0] + 1) * 5
    assert torch.equal((ink + 1e-4).floor().long(), grids)
    copy = ((ink - grids) * 100).round().long()
    assert torch.bincount(copy.flatten(), minlength=20).min() > 120  # 202 ± 14 expected


@pytest.mark.parametrize("side", [4, 9])
def test_puzzles_are_the_same_for_everyone_and_from_their_part(side, pool):
    one, other, third = (sudoku.sample_puzzles(side, 6, (2, 9), pool, "test", seed) for seed in (3, 3, 4))
    for name in ("grids", "cells", "given"):
        assert torch.equal(getattr(one, name), getattr(other, name))
        assert not torch.equal(getattr(one, name), getattr(third, name))
    assert sudoku.held_out(one.grids).all()
    assert one.given.sum(1).min() >= 2 and one.given.sum(1).max() <= 9


def test_other_sides_are_refused():
    with pytest.raises(ValueError, match="side: 6"):
        sudoku.sample_grids(6, 3, "train", seeded())
    with pytest.raises(ValueError, match="make no square"):
        sudoku.is_valid(torch.zeros(1, 80, dtype=torch.long))
