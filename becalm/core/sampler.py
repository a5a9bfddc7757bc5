"""Configuration of sampling for every system: number of steps, update of each step, guidance."""

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
"""Steppers by the name that people type; each takes η, which only `ancestral` uses."""


@dataclass(frozen=True)
class Sampler:
    """Sampler configuration; a system ignores the fields that do not apply to it."""

    steps: int = 25
    """Steps from noise to data, at least 1; ignored where `order` is given."""
    update: Update = "dpm"
    """The update of a step: ancestral (Ho et al. 2020), DDIM (Song et al. 2021), Heun (Karras et al. 2022) or
    DPM-Solver++(2M) (Lu et al. 2022)."""
    eta: float = 1.0
    """Fraction η of the ancestral noise that is added in each step, from 0 (DDIM) to 1."""
    variance: Variance = "small"
    """Variance of that noise: lower bound, upper bound, or learned interpolation between them (Nichol & Dhariwal 2021)."""
    guidance: float = 0.0
    """Weight w of classifier-free guidance, û + w (û − û without a class) (Ho & Salimans 2022); 0 leaves the model as it is."""
    order: Walk | None = field(default=None, repr=False)
    """Order in which variables are denoised (a walk of `becalm.walk`); None: all together, in `steps` steps."""
    custom: Stepper | None = field(default=None, repr=False)
    """Stepper used in place of `update`."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps: {self.steps}; at least 1 is needed")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta: {self.eta}; it must be from 0 to 1")
        if self.update not in STEPPERS:
            raise ValueError(f"update: {self.update!r} is unknown; choose from {', '.join(STEPPERS)}")

    @property
    def stepper(self) -> Stepper:
        """The function that computes one step."""
        if self.custom is None and self.update == "ancestral":
            return reverse(self.eta, self.variance)
        return self.custom or STEPPERS[self.update](self.eta)

    @property
    def walk(self) -> Walk:
        """The walk: `order`, or all variables together."""
        return self.order or together(self.steps)
