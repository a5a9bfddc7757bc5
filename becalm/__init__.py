"""becalm: denoising models over sets of continuous variables."""

from importlib import import_module
from typing import TYPE_CHECKING

from becalm.core import contrastive, densities, langevin, partition, scores, times, walk
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean, eps, levels, score, v, velocity
from becalm.core.learned import Learned
from becalm.core.process import Output, Prediction, corrupt, posterior, reverse_moments, transition
from becalm.core.sample import Step, dpm_solver_pp_2m, heun, reverse, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas, Cosine, Karras, Ladder, Level, Linear, Rectified

if TYPE_CHECKING:
    from becalm.tasks.complete import complete
    from becalm.tasks.compress import compress
    from becalm.tasks.decompress import decompress
    from becalm.tasks.denoise import denoise
    from becalm.tasks.generate import generate
    from becalm.tasks.interpolate import interpolate
    from becalm.tasks.likelihood import likelihood
    from becalm.tasks.models import models
    from becalm.tasks.solve import solve
    from becalm.tasks.train import train
    from becalm.tasks.vary import vary
    from becalm.weights.store import load

__all__ = [
    "Betas",
    "Cosine",
    "Denoiser",
    "Karras",
    "Ladder",
    "Learned",
    "Level",
    "Linear",
    "Output",
    "Prediction",
    "Rectified",
    "Sampler",
    "Step",
    "clean",
    "complete",
    "compress",
    "contrastive",
    "corrupt",
    "decompress",
    "denoise",
    "densities",
    "dpm_solver_pp_2m",
    "eps",
    "generate",
    "heun",
    "interpolate",
    "langevin",
    "levels",
    "likelihood",
    "load",
    "models",
    "partition",
    "posterior",
    "reverse",
    "reverse_moments",
    "sample",
    "score",
    "scores",
    "solve",
    "times",
    "train",
    "transition",
    "v",
    "vary",
    "velocity",
    "walk",
]
__version__ = "0.1.0"
TASKS = (
    "complete",
    "compress",
    "decompress",
    "denoise",
    "generate",
    "interpolate",
    "likelihood",
    "models",
    "solve",
    "train",
    "vary",
)
"""Functions of `becalm.tasks`, each in a module of its name; they and `load` are imported when first used."""


def __getattr__(name: str):
    """Import the tasks with all their models: `import becalm` alone costs no more than the core does."""
    if name.startswith("_"):
        raise AttributeError(f"module 'becalm' has no attribute {name!r}")
    for task in TASKS:
        globals()[task] = getattr(import_module(f"becalm.tasks.{task}"), task)
    globals()["load"] = import_module("becalm.weights.store").load
    if name not in globals():
        raise AttributeError(f"module 'becalm' has no attribute {name!r}")
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
