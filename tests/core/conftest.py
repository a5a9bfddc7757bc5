"""The lists that bring every property test to every schedule, kind, walk and stepper: a new one joins here."""

import pytest

from becalm.core import kinds
from becalm.core.learned import Learned, LearnedLinear, LeastVariance
from becalm.core.sample import dpm_solver_pp_2m, heun, reverse
from becalm.core.schedule import Betas, Cosine, Karras, Ladder, Linear, Rectified
from becalm.core.walk import by_certainty, by_graph, in_order, together

SCHEDULES = [
    *(Linear(scaling=s) for s in ("preserve", "explode", "interpolate")),
    *(Cosine(s) for s in ("preserve", "interpolate")),
    *(Rectified(s, shift) for s in ("preserve", "interpolate") for shift in (1.0, 5.0)),
    *(Karras(scaling=s) for s in ("preserve", "explode", "interpolate")),
    *(Betas(scaling=s) for s in ("preserve", "explode", "interpolate")),
    *(Ladder(scaling=s) for s in ("preserve", "explode", "interpolate")),
    *(f(scaling=s) for f in (Learned, LearnedLinear, LeastVariance) for s in ("preserve", "explode", "interpolate")),
]
KINDS = [kinds.eps, kinds.clean, kinds.score, kinds.v, kinds.velocity]
DETERMINISTIC = {"ddim": reverse(0.0), "heun": heun(), "dpm++2m": dpm_solver_pp_2m()}


def ring(variables: int):
    import torch

    eye = torch.eye(variables, dtype=torch.float64)
    return eye.roll(1, 0) + eye.roll(-1, 0)


WALKS = {
    "together": lambda n: together(40),
    "in order": lambda n: in_order(steps_per_variable=20),
    "in order, overlapping": lambda n: in_order(group=2, overlap=0.5, steps_per_variable=25),
    "by certainty": lambda n: by_certainty(overlap=0.25, steps_per_variable=20),
    "by graph": lambda n: by_graph(ring(n), steps_per_variable=20),
}


@pytest.fixture(params=SCHEDULES, ids=lambda s: f"{type(s).__name__}-{s.scaling}{getattr(s, 'shift', '')}")
def schedule(request):
    return request.param


@pytest.fixture(params=KINDS, ids=lambda k: k.__name__)
def kind(request):
    return request.param


@pytest.fixture(params=DETERMINISTIC.values(), ids=DETERMINISTIC.keys())
def deterministic(request):
    return request.param


@pytest.fixture(params=WALKS.values(), ids=WALKS.keys())
def walk_of(request):
    return request.param
