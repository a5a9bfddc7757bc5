"""The sampler's configuration gives the steppers and walks of its names; devices by name."""

import pytest
import torch

import becalm
from becalm.core.device import device_of
from becalm.core.files import InputError


def final(sampler: becalm.Sampler) -> torch.Tensor:
    def network(z, t, given):
        return becalm.Output(torch.sin(z), spread=torch.full_like(z, 0.5))

    denoiser = becalm.Denoiser(network, becalm.Linear(), becalm.eps)
    z, generator = torch.linspace(-1, 1, 12).reshape(1, 4, 3), torch.Generator().manual_seed(0)
    steps = becalm.sample(denoiser, z, torch.ones(1, 4, 1), sampler.walk, sampler.stepper, generator=generator)
    *_, last = steps
    return last.z


@pytest.mark.parametrize(
    ("options", "stepper"),
    [
        ({"update": "ancestral", "eta": 0.3}, becalm.reverse(0.3)),
        ({"update": "ancestral", "variance": "learned"}, becalm.reverse(1.0, "learned")),
        ({"update": "ddim"}, becalm.reverse(0.0)),
        ({"update": "heun"}, becalm.heun()),
        ({}, becalm.dpm_solver_pp_2m()),
        ({"custom": becalm.reverse(0.7)}, becalm.reverse(0.7)),
    ],
)
def test_names_give_their_steppers(options, stepper):
    made = becalm.Sampler(steps=5, **options)
    assert torch.equal(final(made), final(becalm.Sampler(order=becalm.walk.together(5), custom=stepper)))


def test_impossible_samplers_are_refused():
    for wrong in ({"steps": 0}, {"eta": -0.1}, {"eta": 1.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            becalm.Sampler(**wrong)


def test_devices_have_names():
    assert device_of("cpu").type == "cpu"
    with pytest.raises(InputError, match="is not a device"):
        device_of("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no such device"):
            device_of("cuda")
