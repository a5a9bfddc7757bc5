"""becalm: denoising models over sets of continuous variables."""

from becalm.points.denoise import denoise
from becalm.systems.store import load

__all__ = ["denoise", "load"]
__version__ = "0.1.0"
