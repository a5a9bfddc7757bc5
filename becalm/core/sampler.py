"""How data is sampled: the number of steps, the update of each step, and guidance. One configuration for every system."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from becalm.core.process import Variance
from becalm.core.sample import Stepper, dpm_solver_pp_2m, heun, reverse
from becalm.core.walk import Walk, together

Update = Literal["ancestral", "ddim", "heun", "dpm"]

STEPPERS: dict[str, Callable[[float], Stepper]] = {
    "ancestral": lambda eta: reverse(eta=eta),
    "ddim": lambda eta: reverse(eta=0.0),
    "heun": lambda eta: heun(),
    "dpm": lambda eta: dpm_solver_pp_2m(),
}
"""Steppers by the name that people type; each takes η, which only `ancestral` heeds."""


@dataclass(frozen=True)
class Sampler:
    """How to sample; the fields a system does not have a use for are left at their defaults."""

    steps: int = 25
    """Steps from noise to data, at least 1; ignored where `order` is given."""
    update: Update = "dpm"
    """The update of a step: ancestral (Ho et al. 2020), DDIM (Song et al. 2021), Heun (Karras et al. 2022) or
    DPM-Solver++(2M) (Lu et al. 2022)."""
    eta: float = 1.0
    """Noise put back by the ancestral update, from 0 (none) to 1."""
    variance: Variance = "small"
    """Variance of that noise: the lower bound, the upper bound, or where between them a network learned it to be."""
    guidance: float = 0.0
    """Weight w of classifier-free guidance, û + w (û − û without a class) (Ho & Salimans 2022); 0 leaves the model as it is."""
    order: Walk | None = field(default=None, repr=False)
    """Which variable is denoised when (`becalm.walk`); None denoises all together in `steps` steps."""
    custom: Stepper | None = field(default=None, repr=False)
    """A stepper of one's own in place of `update`."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps}; at least 1 is needed")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: {self.eta}; it must be from 0 to 1")
        if self.update not in STEPPERS:
            raise ValueError(f"update: {self.update!r} is unknown; choose from {', '.join(STEPPERS)}")

    @property
    def stepper(self) -> Stepper:
        """The function that makes one step."""
        if self.custom is None and self.update == "ancestral":
            return reverse(self.eta, self.variance)
        return self.custom or STEPPERS[self.update](self.eta)

    @property
    def walk(self) -> Walk:
        """Which variable is denoised when."""
        return self.order or together(self.steps)
