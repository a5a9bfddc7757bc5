"""becalm: denoising models over sets of continuous variables."""

from becalm.core import contrastive, densities, langevin, partition, scores, times, walk
from becalm.core.denoiser import Denoiser
from becalm.core.kinds import clean, eps, levels, score, v, velocity
from becalm.core.learned import Learned
from becalm.core.process import Output, Prediction, corrupt, posterior, reverse_moments, transition
from becalm.core.sample import Step, dpm_solver_pp_2m, heun, reverse, sample
from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas, Cosine, Karras, Ladder, Level, Linear, Rectified
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
