"""A small untrained model of images, in a file, and images of it."""

from pathlib import Path

import numpy as np
import torch

from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig
from becalm.weights.store import save


def small_vdm(seed: int = 0, logits: float = 0.0) -> VDM:
    """4 × 4 grey images of 17 levels; its bound is log₂ 17 bits where `logits`, the size of random ones, is 0."""
    torch.manual_seed(seed)
    parts = NetworkConfig("mlp", {"width": 8, "depth": 1}), NoiseConfig(gamma_min=-7.9)
    model = VDM([4, 4, 1], 17, "levels", *parts, features=4)
    torch.nn.init.normal_(model.logits.weight, std=logits) if logits else None
    return model.eval()


def saved(folder: Path, model: VDM, name: str = "model") -> Path:
    """The file of a model."""
    save(model, folder / f"{name}.safetensors", {"task": "likelihood"})
    return folder / f"{name}.safetensors"


def random_images(count: int, seed: int = 0) -> np.ndarray:
    """uint8 [count, 4, 4]."""
    return np.random.default_rng(seed).integers(0, 17, (count, 4, 4), dtype=np.uint8)
