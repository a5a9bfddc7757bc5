"""Training pairs for cloud denoisers: a clean cloud and the same points with noise, as a pure function of seed and index."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points import mesh as mesh_tools
from becalm.points import noise as noise_laws
from becalm.points.elimination import eliminate
from becalm.points.neighbours import knn
from becalm.shapes.charts import SurfaceSampler
from becalm.shapes.random_surfaces import random_surface_sampler, rotation

INTERIOR_NEIGHBOURS = 192
"""A point is `interior` when this many of its nearest noisy neighbours are in the item."""


class CloudPair(NamedTuple):
    """A clean cloud and a noisy one; row i of every array belongs to point i."""

    clean: np.ndarray
    """[n, 3] float64, on the surface."""
    noisy: np.ndarray
    """[n, 3] float64."""
    sigma: np.ndarray
    """[n] noise level of each point: the root of its mean squared displacement per coordinate."""
    interior: np.ndarray
    """[n] bool: the noisy point has the same nearest neighbours as in the uncropped cloud."""


def cloud_pair(seed: int, index: int, meshes: Path | None = None) -> CloudPair:
    """Item `index` of the endless training set `seed`: of a procedural surface or, with probability ½, of a mesh in `meshes`.

    A surface is sampled at the density of N = 5 000 to 60 000 points in all; the item holds the 2 500 to 7 000 of them nearest to
    one of them. Noise is Gaussian with probability 2/3, σ from 0 to 4.5 point spacings or 4 % of the object's radius.
    """
    rng = np.random.default_rng([seed, index])
    sampler = random_sampler(rng, meshes)
    total = int(np.exp(rng.uniform(np.log(5_000), np.log(60_000))))
    size = int(rng.integers(2_500, 7_000))
    candidates = sampler(int(3 * total), rng).points
    candidates = candidates - (candidates.min(axis=0) + candidates.max(axis=0)) / 2
    candidates /= np.linalg.norm(candidates, axis=1).max()
    spacing = estimate_spacing(candidates, total)
    level = random_noise_level(rng, spacing)
    centre = candidates[rng.integers(len(candidates))]
    clean, complete = sample_region(candidates, centre, total, size, 5 * level + 4 * spacing, rng)
    moved, sigma = random_noise(clean, level, spacing, rng)
    pair = crop_pair(clean, clean + moved, sigma, centre, size, complete)
    turn = rotation(rng).T * np.exp(rng.uniform(-1, 1))
    scale = np.linalg.norm(turn[0])
    return CloudPair(pair.clean @ turn, pair.noisy @ turn, pair.sigma * scale, pair.interior)


def random_sampler(rng: np.random.Generator, meshes: Path | None) -> SurfaceSampler:
    """A sampler of a random mesh of the folder or of a procedural surface, with equal probability."""
    files = training_mesh_files(meshes) if meshes else ()
    if not files or rng.random() < 0.5:
        return random_surface_sampler(rng)[1]
    mesh = load_mesh(files[rng.integers(len(files))])
    return lambda n, rng: mesh_tools.sample(mesh, n, rng)


@lru_cache(maxsize=4)
def training_mesh_files(folder: Path) -> tuple[Path, ...]:
    """The files `train.*.npz` of a folder, sorted by name; raises FileNotFoundError where there is none."""
    files = tuple(sorted(Path(folder).glob("train.*.npz")))
    if not files:
        raise FileNotFoundError(f"{folder}: no train.*.npz in it; give a folder of training meshes, or none")
    return files


@lru_cache(maxsize=64)
def load_mesh(path: Path) -> mesh_tools.Mesh:
    """A mesh scaled to its unit sphere; the last 64 are cached."""
    return mesh_tools.unit_sphere(mesh_tools.load(path))


def estimate_spacing(candidates: np.ndarray, total: int) -> float:
    """The spacing √(A/N) of N = `total` points on a surface; its area A is estimated from random points [m, 3] of it."""
    some = candidates[: max(2000, len(candidates) // 16)]
    distance = knn(some, 9)[0][:, -1]
    return float(np.sqrt(len(some) * np.pi * np.mean(distance**2) / 8 / total))


def random_noise_level(rng: np.random.Generator, spacing: float) -> float:
    """σ: 0 with probability 1/12, else uniform or log-uniform up to 4.5 spacings, at most 0.04 (object radii)."""
    greatest = min(4.5 * spacing, 0.04)
    u = rng.random()
    if u < 1 / 12:
        return 0.0
    return float(rng.uniform(0, greatest) if u < 0.6 else greatest * np.exp(rng.uniform(np.log(0.01), 0)))


def sample_region(
    candidates: np.ndarray, centre: np.ndarray, total: int, size: int, margin: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Points [m, 3] around `centre` at the density of `total` points on the whole surface, and the radius of the region.

    The region is a ball that holds about `size` points, of infinite radius where that is the whole surface; points up to `margin`
    outside it are returned too. With probability 2/3 they are evenly spaced, else as random as the candidates; with probability
    1/8 their density falls off in one direction, to a quarter.
    """
    distance = np.linalg.norm(candidates - centre, axis=1)
    share = total / len(candidates)
    rank = int(1.05 * size / share)
    radius = np.partition(distance, rank)[rank] if rank < len(candidates) else np.inf
    near = candidates[distance <= radius + margin]
    if rng.random() < 1 / 8:
        slope = (near - centre) @ noise_laws.unit_directions(1, rng)[0]
        near = near[rng.random(len(near)) < 0.25 + 0.75 / (1 + np.exp(-4 * slope / slope.std()))]
    count = max(round(share * len(near)), 1)
    chosen = eliminate(near, count) if rng.random() < 2 / 3 else rng.choice(len(near), count, replace=False)
    return near[chosen], radius


def random_noise(clean: np.ndarray, level: float, spacing: float, rng: np.random.Generator):
    """Displacements [n, 3] by a random law, and their σ [n]; with probability 1/6 σ varies over the cloud."""
    sigma = np.full(len(clean), level)
    if rng.random() < 1 / 6:
        slope = (clean - clean.mean(axis=0)) @ noise_laws.unit_directions(1, rng)[0]
        sigma = level * np.exp(0.5 * np.clip(slope / max(slope.std(), 1e-300), -2, 1))
    kind = "gaussian" if rng.random() < 2 / 3 else str(rng.choice(list(noise_laws.LAWS)))
    parameter = sigma / np.sqrt(noise_laws.VARIANCE_FACTOR[kind])
    if kind == "correlated":
        return noise_laws.correlated(clean, parameter, rng, float(spacing * rng.uniform(1, 4))), sigma
    return noise_laws.LAWS[kind](clean, parameter, rng), sigma


def crop_pair(clean, noisy, sigma: np.ndarray, centre: np.ndarray, size: int, complete: float = np.inf) -> CloudPair:
    """The pair of the `size` noisy points [n, 3] nearest to `centre`, or of those within `complete` where they are fewer.

    `interior` is conservative: it may be False for an interior point, never True for another. In a ball of radius R a point at
    distance d has its k nearest neighbours inside when r_k ≤ R − d. As r_k is 1-Lipschitz in space, it is computed for one point
    in eight only: r_k(x) ≤ r_k(y) + |x − y|.
    """
    distance = np.linalg.norm(noisy - centre, axis=1)
    order = np.argsort(distance)
    radius = min(complete, distance[order[size]] if size < len(noisy) else np.inf)
    rows = order[distance[order] < radius]
    inside = noisy[rows]
    some = inside[::8]
    radii = knn(inside, min(INTERIOR_NEIGHBOURS, len(inside)), some)[0][:, -1]
    away, nearest = knn(some, 1, inside)
    bound = radii[nearest[:, 0]] + away[:, 0]
    return CloudPair(clean[rows], inside, sigma[rows], bound <= radius - distance[rows])
