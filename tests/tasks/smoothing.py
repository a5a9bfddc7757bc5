"""A denoiser of clouds that takes no time: the mean of the nearest neighbours. Processes of workers can import it."""

import os
import time
from pathlib import Path

import numpy as np

from becalm.points.neighbours import knn
from becalm.points.progress import DenoiseProgress


class Smoothing:
    """Every point goes to the mean of its nearest eight; where a file `once` is named, the first process to delete it dies."""

    def __init__(self, once: Path | None = None, seconds: float = 0.0):
        self.once, self.seconds = once, seconds

    def iter_denoise(self, xyz, sigma=None, seed=0):
        time.sleep(self.seconds)
        if self.once is not None and self.once.exists():
            self.once.unlink()
            os._exit(9)
        moved = xyz[knn(xyz, 8)[1]].mean(axis=1)
        yield DenoiseProgress(1.0, moved, np.linalg.norm(moved - xyz, axis=1), np.full(len(xyz), 0.01))
