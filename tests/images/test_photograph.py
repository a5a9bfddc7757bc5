"""Photographs of a grid: straightened, lines removed, empty cells found, digits centred; clear errors where there is no grid."""

from math import isqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from becalm.core.files import InputError
from becalm.images import photograph, puzzle_picture
from becalm.images.grid import cut, shrink
from becalm.nets.digit_classifier import DigitClassifier
from becalm.weights.store import load

EXAMPLES = Path(__file__).parents[2] / "examples" / "puzzles"
CELL, MARGIN = 50, 100


def example(side: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """The digits of the packaged puzzle [cell, 28, 28], ink 1, and which of its cells are empty."""
    image, mask = (puzzle_picture.read_image(EXAMPLES / f"sudoku{side}{part}.png") for part in ("", ".mask"))
    pixels = image.shape[0] // side
    cells = shrink(cut(image[None], pixels), 28)[0].reshape(side**2, 28, 28)
    return cells, cut(mask[None], pixels)[0].mean(1) > 0.5


def draw_page(empty: torch.Tensor, cells: torch.Tensor) -> np.ndarray:
    """A page with lines and digits, dark on light; 650 × 650 pixels for 81 cells."""
    side = isqrt(len(empty))
    page = np.ones(2 * [2 * MARGIN + side * CELL])
    for cell in (~empty).nonzero()[:, 0].tolist():
        top, left = MARGIN + cell // side * CELL + 8, MARGIN + cell % side * CELL + 10
        page[top : top + 28, left : left + 28] -= 0.8 * cells[cell].numpy()
    for k in range(side + 1):
        at, width = MARGIN + k * CELL, 2 if k % isqrt(side) == 0 else 1
        page[at - width : at + width, MARGIN - 2 : MARGIN + side * CELL + 2] = 0.2
        page[MARGIN - 2 : MARGIN + side * CELL + 2, at - width : at + width] = 0.2
    return page


def photograph_of(page: np.ndarray) -> torch.Tensor:
    """The page from aslant, unevenly lit, with noise."""
    from skimage.transform import ProjectiveTransform, warp

    side = len(page) - 1
    corners = np.array([[0, 0], [side, 0], [side, side], [0, side]], float)
    seen = corners + np.array([[30, 5], [-10, 40], [-35, 0], [5, -45]])
    aslant = warp(page, ProjectiveTransform.from_estimate(seen, corners), cval=0.9)
    light = np.linspace(0.55, 1, len(page))
    return torch.from_numpy(aslant * light + 0.02 * np.random.default_rng(0).normal(size=page.shape)).clamp(0, 1)


@pytest.mark.parametrize(("side", "dark"), [(9, True), (9, False), (4, True)])
def test_a_grid_seen_aslant_is_straightened_and_read(side, dark):
    cells, empty = example(side)
    seen = photograph_of(draw_page(empty, cells))
    image, mask = photograph.extract_grid(seen if dark else 1 - seen, side)
    assert image.shape == mask.shape == (28 * side, 28 * side)
    assert torch.equal(cut(mask[None], 28)[0].mean(1) > 0.5, empty)
    reader = load("reader14", DigitClassifier)
    found = reader.read(shrink(cut(2 * image[None] - 1, 28), 14))[0][~empty]
    assert (found == reader.read(shrink(2 * cells.flatten(1) - 1, 14))[~empty]).double().mean() > 0.95


def test_digits_are_centred_by_their_mass_at_the_size_of_mnist_s():
    cell = np.zeros((100, 100))
    cell[20:70, 30:40] = 1
    cell[60:70, 30:60] = 1
    digit = photograph.extract_digit(cell, np.zeros_like(cell, bool))
    places = np.arange(28)
    assert digit.sum(1) @ places / digit.sum() == pytest.approx(13.5, abs=0.1)
    assert digit.sum(0) @ places / digit.sum() == pytest.approx(13.5, abs=0.1)
    rows = np.flatnonzero(digit.max(1) > 0.3)
    assert rows[-1] - rows[0] + 1 == pytest.approx(20, abs=1)


def test_specks_and_lines_at_the_rim_are_no_digit():
    cell = np.zeros((100, 100))
    cell[50:54, 50:54] = cell[:6] = 1
    assert photograph.extract_digit(cell, np.zeros_like(cell, bool)) is None


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (np.ones((300, 300)), "no square grid with a closed frame was found"),
        (np.random.default_rng(0).random((300, 300)), "no (square grid|empty cell)"),
        (draw_page(torch.ones(81, dtype=torch.bool), torch.zeros(81, 28, 28)), "only empty cells"),
    ],
)
def test_what_is_no_puzzle_is_refused(page, words):
    with pytest.raises(InputError, match=f"page.png: .*{words}"):
        photograph.extract_grid(torch.from_numpy(page), 9, "page.png")


def test_nothing_to_solve_is_refused():
    cells, _ = example()
    full = torch.zeros(81, dtype=torch.bool)
    with pytest.raises(InputError, match="no empty cell was found"):
        photograph.extract_grid(torch.from_numpy(draw_page(full, cells[:1].expand(81, 28, 28) * 0 + bar())), 9)


def bar() -> torch.Tensor:
    """An upright stroke."""
    stroke = torch.zeros(28, 28)
    stroke[5:23, 12:16] = 1
    return stroke
