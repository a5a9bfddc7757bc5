"""Solving a puzzle by decisions: a beam search for the likeliest digits of its cells, one call of the network a decision.

The model's estimate of a cell that is all noise is the mean of what the cell may show, E[x_i | the known cells]. In linear
features that is the mean of the digits' features weighted by p(d), so the probabilities p(d) follow from it. The most certain
cell is decided, written as the model writes that digit, and known from then on. A beam keeps the likeliest grids by Σ log p
(Lowerre 1976), each with its own decisions. The rules of the puzzle are used at the end only: of the grids found the likeliest
that breaks none is taken; where all break one, a wider search follows.
"""

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

import torch

from becalm.core.process import Prediction, noise_like
from becalm.core.sample import Step
from becalm.core.typing import Float, Int, Tensor
from becalm.images import sudoku
from becalm.systems.givens import Handwriting
from becalm.systems.puzzles import Puzzle, Solution
from becalm.systems.search import Attempt
from becalm.systems.srm import SRM

MIN_PROBABILITY = 0.05
"""Probability below which a digit is no alternative to the likeliest one."""

WIDTH_FACTOR = 4
"""Width of a search over that of the one before, which found no valid grid."""

MIN_TOLD_APART = 0.9
"""Share of the written digits that must be told by their features alone."""


class DigitTemplates(NamedTuple):
    """A typical cell of each digit as a model writes it, and weights that give the digits' probabilities in its estimates."""

    cells: Float[Tensor, "digit channel"]
    """Of each digit the written cell that is nearest to the mean of its kind, in the model's features."""
    weights: Float[Tensor, "feature_plus_one digit"]
    """From the features of an estimate, and a 1, to the probabilities of the digits."""

    def probabilities(self, model: SRM, x: Float[Tensor, "run cell channel"]) -> Float[Tensor, "run cell digit"]:
        """p(d) of each cell from estimates of x, so that the features are Σ p(d) · those of the digit's mean, and Σ p(d) = 1."""
        assert model.features is not None, "a model of templates has features"
        features = x.float() @ model.features
        probability = (torch.cat([features, torch.ones_like(features[..., :1])], -1) @ self.weights).clamp_min(1e-4)
        return probability / probability.sum(-1, keepdim=True)


def fit_templates(model: SRM, hand: Handwriting) -> DigitTemplates | None:
    """The templates of a model's handwriting; None where a digit was never written, or the model's features tell no digits:
    they must be one fewer than the digits, and tell most of what was written."""
    variables = 0 if model.places is None else len(model.places)
    side, features = isqrt(variables), model.features
    if features is None or features.shape[1] != side - 1 or set(range(1, side + 1)) - set(hand.digits.tolist()):
        return None
    chosen, means = [], []
    for digit in range(1, side + 1):
        written = hand.cells[hand.digits == digit].float()
        seen = written @ features.cpu()
        means.append(seen.mean(0))
        chosen.append(written[(seen - means[-1]).square().sum(1).argmin()])
    weights = torch.linalg.pinv(torch.cat([torch.stack(means), torch.ones(side, 1)], 1))
    made = DigitTemplates(torch.stack(chosen).to(features.device), weights.to(features.device))
    clear = hand.digits > 0
    told = made.probabilities(model, hand.cells[clear][None].to(features.device))[0].argmax(-1).cpu() + 1
    return made if float((told == hand.digits[clear]).float().mean()) >= MIN_TOLD_APART else None


class Beam(NamedTuple):
    """Grids of a search, the likeliest first, all with as many cells decided."""

    digits: Int[Tensor, "run cell"]
    """The digits decided or given; 0 in open cells."""
    nll: Float[Tensor, " run"]
    """−Σ log p of the decisions."""
    order: Int[Tensor, "run cell"]
    """When each cell was decided, from 1; 0 in given and open ones."""
    certainty: Float[Tensor, "run cell"]
    """The probability of the digit of each cell when it was decided; NaN in given and open ones."""
    parent: Int[Tensor, " run"]
    """The number of the grid that each came from, among those before the last decision."""

    def take(self, rows: Int[Tensor, " row"]) -> "Beam":
        """The grids with these numbers."""
        return Beam(*(part[rows] for part in self))


def search_digits(
    model: SRM,
    cells: Float[Tensor, "1 cell channel"],
    given: Int[Tensor, " cell"],
    templates: DigitTemplates,
    width: int,
    generator: torch.Generator | None = None,
) -> Iterator[Attempt]:
    """Solve a puzzle by searches of width 1, 4, 16 … up to `width`, until one finds a valid grid.

    `cells` are the images of the given cells, best those of the templates (`rewrite_cells`), and `given` their digits, 0
    elsewhere. `templates` are those of `fit_templates`; `generator` draws the noise of open cells. Yields a report a decision;
    the last holds the best grid: the likeliest valid one, else the likeliest of the last search.
    """
    best, calls = None, 0
    for size in beam_widths(width):
        start = given[None].to(cells.device)
        unsure = torch.full(start.shape, torch.nan)
        beam = Beam(start, torch.zeros(1), torch.zeros_like(start), unsure, torch.zeros(1, dtype=torch.long))
        for _ in range(int((given == 0).sum())):
            step = predict_open_cells(model, cells, given, templates, beam.digits, generator)
            probability = templates.probabilities(model, step.prediction.x)
            beam = decide_next_cells(beam, probability)
            if bool((beam.digits[0] == 0).any()):
                beam = beam.take(torch.arange(min(size, len(beam.digits))))
            calls += 1
            found = write_solution(beam.take(torch.arange(1)), cells, given, templates)
            yield Attempt(step_to(found, beam, step, probability), found, calls)
        valid = sudoku.is_valid(beam.digits).cpu()
        best = beam.take(valid.int().argmax()[None].cpu())
        if valid.any():
            break
    if best is not None:
        yield Attempt(None, write_solution(best, cells, given, templates), calls)


def beam_widths(width: int) -> list[int]:
    """The widths of the searches for at most `width` grids."""
    widths = [1]
    while widths[-1] < width:
        widths.append(min(WIDTH_FACTOR * widths[-1], width))
    return widths


def predict_open_cells(
    model: SRM,
    cells: Float[Tensor, "1 cell channel"],
    given: Int[Tensor, " cell"],
    templates: DigitTemplates,
    digits: Int[Tensor, "run cell"],
    generator: torch.Generator | None,
) -> Step:
    """The model's prediction where known cells show what was given or decided, and open ones are noise."""
    known = write_cells(cells, given, templates, digits)
    z = torch.where((digits == 0)[..., None], noise_like(known, generator), known)
    t = (digits == 0)[..., None].double()
    return Step(z, t, model.predict(z, t))


def rewrite_cells(puzzle: Puzzle, given: Int[Tensor, " cell"], templates: DigitTemplates) -> Puzzle:
    """The puzzle with every given digit by its template."""
    return puzzle._replace(cells=write_cells(puzzle.cells, torch.zeros_like(given), templates, given[None]))


def write_cells(
    cells: Tensor, given: Tensor, templates: DigitTemplates, digits: Int[Tensor, "run cell"]
) -> Float[Tensor, "run cell channel"]:
    """The images of cells: the given ones as they are, decided ones as the model writes their digit."""
    written = templates.cells.to(cells)[(digits - 1).clamp_min(0)]
    return torch.where((given > 0).to(cells.device)[:, None], cells, written)


def decide_next_cells(beam: Beam, probability: Float[Tensor, "run cell digit"]) -> Beam:
    """The grids that follow: of each its most certain open cell gets every digit that is likely there; the likeliest first, none
    twice."""
    probability, digits = probability.cpu().double(), beam.digits.cpu()
    open_cells, side = digits == 0, probability.shape[-1]
    rows = torch.arange(len(digits))
    cell = probability.amax(-1).masked_fill(~open_cells, -1).argmax(1)
    p = probability[rows, cell]
    unlikely = (p < MIN_PROBABILITY) & (p < p.amax(1, keepdim=True))
    nll = (beam.nll[:, None] - p.log()).masked_fill(unlikely, torch.inf).flatten()
    ranked = nll.argsort(stable=True)[: int(nll.isfinite().sum())]
    parent, digit = ranked // side, ranked % side
    place = cell[parent]
    following = beam.take(parent)
    new = torch.arange(len(ranked))
    digits, order, certainty = (part.cpu().clone() for part in (following.digits, following.order, following.certainty))
    digits[new, place] = digit + 1
    order[new, place] = order.amax(1) + 1
    certainty[new, place] = p[parent, digit].float()
    same = digits.unique(dim=0, return_inverse=True)[1]
    first = torch.full((int(same.max()) + 1,), len(new)).scatter_reduce(0, same, new, "amin").sort().values
    found = Beam(digits, nll[ranked].float(), order, certainty, parent).take(first)
    return found._replace(digits=found.digits.to(beam.digits.device))


def write_solution(beam: Beam, cells: Tensor, given: Tensor, templates: DigitTemplates) -> Solution:
    """Grids of a beam as solutions; open cells show nothing."""
    written = write_cells(cells, given, templates, beam.digits)
    blank = (beam.digits == 0)[..., None].to(cells.device)
    return Solution(torch.where(blank, -1.0, written), beam.certainty.cpu(), beam.order.cpu())


def step_to(found: Solution, beam: Beam, step: Step, probability: Float[Tensor, "run cell digit"]) -> Step:
    """The step to the likeliest grid of a beam: its cells, open ones still noise, and the prediction that decided.

    Its log-variance is log P(the likeliest digit is not that of the cell), by which cells are chosen.
    """
    parent = int(beam.parent[0])
    still_open, before = (beam.digits[:1] == 0)[..., None].to(step.z.device), first_of(step, parent)
    wrong = 1 - probability[parent : parent + 1].amax(-1, keepdim=True)
    prediction = before.prediction._replace(log_var=wrong.clamp_min(1e-6).log())
    return Step(torch.where(still_open, before.z, found.cells), still_open.double(), prediction)


def first_of(step: Step, run: int = 0) -> Step:
    """A step of several runs as that of the first, or of another one."""
    x, eps, *others = (None if part is None else part[run : run + 1] for part in step.prediction)
    assert x is not None and eps is not None
    return Step(step.z[run : run + 1], step.t[run : run + 1], Prediction(x, eps, *others))
