"""becalm.solve: the model for the grid, arrays and paths, results that can be looked at, options that reach the sampler."""

from pathlib import Path

import numpy as np
import pytest
import torch

import becalm
from becalm.core.files import InputError
from becalm.images import puzzle_picture
from becalm.images.sudoku import places
from becalm.systems.puzzles import parse_puzzle
from becalm.systems.srm import SRM
from becalm.tasks import solve as task

EXAMPLES = Path(__file__).parents[2] / "examples" / "puzzles"


def example(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The image and the mask of a packaged puzzle."""
    return tuple(puzzle_picture.read_image(EXAMPLES / f"{name}{part}.png").numpy() for part in ("", ".mask"))


def small_model() -> SRM:
    torch.manual_seed(0)
    return SRM.build(channels=36, places=places(4).tolist(), shape=[32, 4, 1, 1, 2])


def small_puzzle() -> tuple[np.ndarray, np.ndarray]:
    """A stroke in each of 4 × 4 cells of 12 pixels, and a mask with an entry a cell: the first row is given."""
    stroke = np.zeros((12, 12), np.float32)
    stroke[3:9, 4:6] = 1
    mask = np.ones((4, 4), bool)
    mask[0] = False
    return np.tile(stroke, (4, 4)), mask


def test_arrays_are_solved_read_and_shown(tmp_path):
    image, mask = example("sudoku4")
    result = becalm.solve(image, mask)
    assert result.steps == int((result.order > 0).sum()), "one decision a cell"
    assert result.model == "sudoku4" and result.valid is True and result.conflicts == []
    assert (np.sort(result.digits, 1) == np.arange(1, 5)).all()
    given = mask < 0.5
    assert np.array_equal(result.image[given], image[given])
    cells = given.reshape(4, image.shape[0] // 4, 4, -1).all((1, 3))
    assert np.array_equal(result.order == 0, cells) and np.array_equal(np.isnan(result.certainty), cells)
    assert "valid" in repr(result) and "<img" in result._repr_html_()
    again = puzzle_picture.read_image(result.save(tmp_path / "out.png")).numpy()
    assert np.abs(again - result.image).max() <= 0.5 / 255 + 1e-6
    assert result.save_picture(tmp_path / "order.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("rewrite", [True, False])
def test_the_model_sees_given_digits_in_its_own_handwriting(rewrite):
    image, mask = example("sudoku4")
    puzzle = parse_puzzle(torch.from_numpy(image), torch.from_numpy(mask), becalm.load("sudoku4"))
    reports = task.steps(image, mask, steps_per_variable=1, refine=0, rewrite=rewrite)
    seen = next(report.state.step.z for report in reports if report.state)[0]
    given, reader = ~puzzle.unknown[0], becalm.load("reader14")
    assert torch.equal(reader.read(seen)[given], reader.read(puzzle.cells)[0][given])
    apart = (seen - puzzle.cells[0]).abs().amax(1)[given]
    assert (apart > 0.5).all() if rewrite else (apart == 0).all()


def test_the_model_is_that_of_the_grid():
    mask = torch.from_numpy(example("sudoku9")[1])
    assert task.find_solver(mask, "mask") == "sudoku9"
    assert task.find_solver(torch.from_numpy(example("sudoku4")[1]), "mask") == "sudoku4"
    assert task.find_solver(torch.ones(252, 252), "mask") == "sudoku4", "fits both"
    assert task.find_solver(torch.ones(126, 126), "mask") == "sudoku9", "does not fit 4 × 4"
    mask[5:9] = 0.0
    with pytest.raises(InputError, match=r"mask.png: fits no grid \(4 × 4 cells: .*; 9 × 9 cells: row 1 column"):
        task.find_solver(mask, "mask.png")


def test_a_mask_may_have_an_entry_a_cell_and_images_may_be_bytes():
    image, mask = small_puzzle()
    result = becalm.solve((255 * image).astype(np.uint8), mask, small_model(), steps_per_variable=2, reader="none")
    whole = becalm.solve(image, np.kron(mask, np.ones((12, 12))), small_model(), steps_per_variable=2, reader="none")
    assert np.array_equal(result.order > 0, mask) and result.digits is None and result.valid is None
    np.testing.assert_allclose(result.image, whole.image, atol=1e-6)


def test_groups_and_overlap_reach_the_walk():
    image, mask = small_puzzle()
    options = {"steps_per_variable": 4, "reader": "none"}
    reports = list(task.steps(image, mask, small_model(), group=3, overlap=0.5, refine=1, **options))
    assert reports[-1].result.steps == sum(report.state is not None for report in reports) == 10
    assert sorted(reports[-1].result.order[mask].tolist()) == sorted([1, 2, 3, 4] * 3)
    shares = [report.done for report in reports]
    assert shares == sorted(shares) and shares[-1] == 1 and shares[-2] == 1
    assert reports[0].state.solution.order.max() == 1


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_the_variance_is_that_of_the_noise(variance):
    """From z of one step, with x̂ = 0 and the learned place in the middle, the deviation of the next is known."""
    model, generator = small_model(), torch.Generator().manual_seed(0)
    sampler = task.Options(walk="together", variance=variance).pace.sampler("together", 1, 16, 0)
    zero, unknown = torch.zeros(200, 16, 36), torch.ones(200, 16).bool()
    first, second = (step for _, step in zip(range(2), model.solve(zero, unknown, sampler, generator), strict=False))
    level, next_level = model.schedule(first.t[:1]), model.schedule(second.t[:1])
    mean, small = becalm.reverse_moments(second.prediction, first.z, first.t, second.t, model.schedule)
    large = small * (level.sigma / next_level.sigma).float()
    expected = {"small": small, "large": large, "learned": (small * large).sqrt()}[variance]
    assert ((second.z - mean).square().mean() / expected.square().mean()).item() == pytest.approx(1, abs=0.02)


def test_options_out_of_range_are_named():
    image, mask = small_puzzle()
    for options, words in (
        ({"overlap": 1.0}, "--overlap from 0 to below 1"),
        ({"group": 0}, "--group must be at least 1"),
        ({"eta": 2.0}, "--eta from 0 to 1"),
        ({"device": "nowhere"}, "--device nowhere: is not a device"),
    ):
        with pytest.raises(InputError, match=words):
            becalm.solve(image, mask, small_model(), **options)
    with pytest.raises(InputError, match="image: has shape"):
        becalm.solve(image[None], mask, small_model())
    with pytest.raises(InputError, match="both must have one size"):
        becalm.solve(image, np.ones((48, 40)))


def test_without_a_mask_the_grid_is_found_and_its_empty_cells_are_solved():
    from tests.images.test_photograph import draw_page, photograph_of
    from tests.images.test_photograph import example as digits

    cells, empty = digits()
    seen = photograph_of(draw_page(empty, cells)).numpy()
    colours = np.stack([seen, seen * 0.9, seen * 0.8], 2)
    result = becalm.solve((255 * colours).astype(np.uint8), steps_per_variable=1)
    assert result.model == "sudoku9" and np.array_equal(result.order.flatten() > 0, empty.numpy())
    assert result.image.shape == (252, 252)
    with pytest.raises(InputError, match="image: no square grid"):
        becalm.solve(np.ones((200, 200)))


def test_tries_and_rounds_reach_the_search_and_the_best_run_is_the_result():
    image, mask = example("sudoku4")
    options = {"walk": "certainty", "steps_per_variable": 6, "tries": 5, "refine": 1, "backtrack": 1}
    reports = list(task.steps(image, mask, **options))
    result = reports[-1].result
    assert result.valid is True
    assert result.steps == 6 * int((result.order > 0).sum()), "steps of one run"
    assert len(reports) < 5 * result.steps, "a valid run ends the search"


def test_without_a_reader_no_digit_is_decided():
    image, mask = example("sudoku4")
    alone = becalm.solve(image, mask, reader="none", steps_per_variable=2, refine=0)
    assert alone.digits is None and alone.steps == 2 * int((alone.order > 0).sum())
    assert alone.notes == ("nothing reads digits, so the cells are denoised, as by --walk certainty",)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tries": 0}, "--tries at least 1"),
        ({"backtrack": -1}, "--refine and --backtrack must be at least 0"),
        ({"backtrack": 1}, "for walks that denoise: add --walk certainty"),
        ({"tries": 2}, "for walks that denoise: add --walk certainty"),
        ({"beam": 0}, "--beam must be at least 1"),
        ({"digits": ("1-1=2",)}, "--digits 1-1=2: write ROW,COLUMN=DIGIT, such as 8,8=1"),
    ],
)
def test_options_of_the_search_out_of_range_are_named(options, words):
    with pytest.raises(InputError, match=words):
        becalm.solve(*small_puzzle(), small_model(), **options)


def test_a_wider_beam_follows_where_a_grid_breaks_a_rule(monkeypatch):
    image, mask = example("sudoku4")
    checked = []

    def never_valid(grids):
        checked.append(len(grids))
        return torch.zeros(len(grids), dtype=torch.bool)

    monkeypatch.setattr("becalm.systems.beam.sudoku.is_valid", never_valid)
    reports = list(task.steps(image, mask, beam=3))
    unknown = int((reports[-1].result.order > 0).sum())
    assert len(checked) == 2 and reports[-1].result.steps == 2 * unknown, "one grid, then three"
    done = [report.done for report in reports]
    assert done == sorted(done) and done[-1] == 1 and max(done[:-1]) <= 1


def test_a_digit_that_is_said_is_the_digit_of_its_cell():
    image, mask = example("sudoku4")
    result = becalm.solve(image, mask, steps_per_variable=1)
    row, column = (int(i) + 1 for i in np.argwhere(result.order == 0)[0])
    digit = int(result.digits[row - 1, column - 1])
    said = becalm.solve(image, mask, steps_per_variable=1, digits=(f"{row},{column}={digit}",))
    assert np.array_equal(said.digits, result.digits) and said.notes == ()
    row, column = (int(i) + 1 for i in np.argwhere(result.order > 0)[0])
    with pytest.raises(InputError, match="is to be solved; only given ones can be named"):
        becalm.solve(image, mask, digits=(f"{row},{column}=1",))
