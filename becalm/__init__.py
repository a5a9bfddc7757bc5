"""becalm: denoising models over sets of continuous variables."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from becalm.core import contrastive, densities, langevin, partition, scores, times, walk
    from becalm.core.denoiser import Denoiser
    from becalm.core.kinds import clean, eps, levels, score, v, velocity
    from becalm.core.learned import Learned
    from becalm.core.process import Output, Prediction, corrupt, posterior, reverse_moments, transition
    from becalm.core.sample import Step, dpm_solver_pp_2m, heun, reverse, sample
    from becalm.core.sampler import Sampler
    from becalm.core.schedule import Betas, Cosine, Karras, Ladder, Level, Linear, Rectified
    from becalm.page.notebook import view
    from becalm.tasks.complete import complete
    from becalm.tasks.compress import compress
    from becalm.tasks.decompress import decompress
    from becalm.tasks.denoise import denoise
    from becalm.tasks.export import export
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
    "export",
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
    "view",
    "walk",
]
__version__ = "0.1.0"
SUBMODULES = ("contrastive", "densities", "langevin", "partition", "scores", "times", "walk")
"""Modules of `becalm.core` that are names of the package."""
TASKS = (
    "complete",
    "compress",
    "decompress",
    "denoise",
    "export",
    "generate",
    "interpolate",
    "likelihood",
    "models",
    "solve",
    "train",
    "vary",
)
"""Functions of `becalm.tasks`, each in a module of its name."""
OBJECTS = {
    "load": "weights.store",
    "Betas": "core.schedule",
    "Cosine": "core.schedule",
    "Denoiser": "core.denoiser",
    "Karras": "core.schedule",
    "Ladder": "core.schedule",
    "Learned": "core.learned",
    "Level": "core.schedule",
    "Linear": "core.schedule",
    "Output": "core.process",
    "Prediction": "core.process",
    "Rectified": "core.schedule",
    "Sampler": "core.sampler",
    "Step": "core.sample",
    "clean": "core.kinds",
    "corrupt": "core.process",
    "dpm_solver_pp_2m": "core.sample",
    "eps": "core.kinds",
    "heun": "core.sample",
    "levels": "core.kinds",
    "posterior": "core.process",
    "reverse": "core.sample",
    "reverse_moments": "core.process",
    "sample": "core.sample",
    "score": "core.kinds",
    "transition": "core.process",
    "v": "core.kinds",
    "velocity": "core.kinds",
    "view": "page.notebook",
}
"""The other names, and the modules that they are in."""


def __getattr__(name: str) -> Any:
    """The names of the package, imported when first used: `import becalm`, and the command's help, do not wait for torch."""
    if name in SUBMODULES:
        value = import_module(f"becalm.core.{name}")
    elif name in TASKS:
        for task in TASKS:  # all, so that `becalm.tasks.generate` is there after `becalm.denoise`
            globals()[task] = getattr(import_module(f"becalm.tasks.{task}"), task)
        return globals()[name]
    elif name in OBJECTS:
        value = getattr(import_module(f"becalm.{OBJECTS[name]}"), name)
    else:
        raise AttributeError(f"module 'becalm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
