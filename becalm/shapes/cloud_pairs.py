"""Training pairs for cloud denoisers: a clean cloud, the same points with noise, each a pure function of its number."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points import mesh as meshes_
from becalm.points import noise as noises
from becalm.points.elimination import eliminate
from becalm.points.neighbours import knn
from becalm.shapes.charts import Draw
from becalm.shapes.random_surfaces import random_draw, rotation

NEIGHBOURS = 192
"""A point is `interior` when this many of its nearest noisy neighbours are in the item."""


class Pair(NamedTuple):
    """One item: rows of all arrays belong together."""

    clean: np.ndarray
    """[n, 3] float64, on the surface."""
    noisy: np.ndarray
    """[n, 3] float64."""
    sigma: np.ndarray
    """[n] noise level of each point: the root of its mean squared displacement per coordinate."""
    interior: np.ndarray
    """[n] bool: the nearest neighbours of the noisy point are those of the uncut cloud."""


def cloud_pair(seed: int, index: int, meshes: Path | None = None) -> Pair:
    """Item `index` of the endless training set `seed`: procedural, or half of the time of a `train.*.npz` in `meshes`.

    A surface is thought covered by N = 5 000 to 60 000 points; of these the item holds the 2 500 to 7 000 nearest to
    one of them. Noise is Gaussian two times in three, σ from 0 to 4.5 point spacings or 4 % of the object's radius.
    """
    rng = np.random.default_rng([seed, index])
    draw = surface(rng, meshes)
    total = int(np.exp(rng.uniform(np.log(5_000), np.log(60_000))))
    size = int(rng.integers(2_500, 7_000))
    candidates = draw(int(3 * total), rng).points
    candidates = candidates - (candidates.min(axis=0) + candidates.max(axis=0)) / 2
    candidates /= np.linalg.norm(candidates, axis=1).max()
    spacing = covered(candidates, total)
    level = noise_level(rng, spacing)
    centre = candidates[rng.integers(len(candidates))]
    clean, complete = region(candidates, centre, total, size, 5 * level + 4 * spacing, rng)
    moved, sigma = displacement(clean, level, spacing, rng)
    pair = cropped(clean, clean + moved, sigma, centre, size, complete)
    turn = rotation(rng).T * np.exp(rng.uniform(-1, 1))
    scale = np.linalg.norm(turn[0])
    return Pair(pair.clean @ turn, pair.noisy @ turn, pair.sigma * scale, pair.interior)


def surface(rng: np.random.Generator, meshes: Path | None) -> Draw:
    """A mesh of the folder, or a procedural surface, with equal chances."""
    files = training_meshes(meshes) if meshes else ()
    if not files or rng.random() < 0.5:
        return random_draw(rng)[1]
    mesh = loaded(files[rng.integers(len(files))])
    return lambda n, rng: meshes_.sample(mesh, n, rng)


@lru_cache(maxsize=4)
def training_meshes(folder: Path) -> tuple[Path, ...]:
    """The `train.*.npz` of a folder, by name; raises FileNotFoundError where there is none."""
    files = tuple(sorted(Path(folder).glob("train.*.npz")))
    if not files:
        raise FileNotFoundError(f"{folder}: no train.*.npz in it; give a folder of training meshes, or none")
    return files


@lru_cache(maxsize=64)
def loaded(path: Path) -> meshes_.Mesh:
    """A mesh in its unit sphere, kept in memory."""
    return meshes_.unit_sphere(meshes_.load(path))


def covered(candidates: np.ndarray, total: int) -> float:
    """The spacing √(A/N) of N = `total` points on the surface whose area is estimated from random ones [m, 3]."""
    some = candidates[: max(2000, len(candidates) // 16)]
    distance = knn(some, 9)[0][:, -1]
    return float(np.sqrt(len(some) * np.pi * np.mean(distance**2) / 8 / total))


def noise_level(rng: np.random.Generator, spacing: float) -> float:
    """σ: 0 one time in twelve, else uniform or log-uniform up to 4.5 spacings, at most 0.04 (object radii)."""
    most = min(4.5 * spacing, 0.04)
    draw = rng.random()
    if draw < 1 / 12:
        return 0.0
    return float(rng.uniform(0, most) if draw < 0.6 else most * np.exp(rng.uniform(np.log(0.01), 0)))


def region(candidates: np.ndarray, centre: np.ndarray, total: int, size: int, margin: float, rng: np.random.Generator):
    """The points of a sampling with `total` points around `centre`, and the radius within which none lacks.

    The radius is what `size` points fill, infinite where that is the whole surface; points up to `margin` farther out
    are given too. Two times in three they are even, else as random as the candidates; one time in eight their density
    falls off to a side, to a quarter.
    """
    distance = np.linalg.norm(candidates - centre, axis=1)
    share = total / len(candidates)
    rank = int(1.05 * size / share)
    radius = np.partition(distance, rank)[rank] if rank < len(candidates) else np.inf
    near = candidates[distance <= radius + margin]
    if rng.random() < 1 / 8:
        slope = (near - centre) @ noises.directions(1, rng)[0]
        near = near[rng.random(len(near)) < 0.25 + 0.75 / (1 + np.exp(-4 * slope / slope.std()))]
    count = max(round(share * len(near)), 1)
    chosen = eliminate(near, count) if rng.random() < 2 / 3 else rng.choice(len(near), count, replace=False)
    return near[chosen], radius


def displacement(clean: np.ndarray, level: float, spacing: float, rng: np.random.Generator):
    """Displacements [n, 3] of a random kind, and their σ [n]; one time in six σ varies over the cloud."""
    sigma = np.full(len(clean), level)
    if rng.random() < 1 / 6:
        slope = (clean - clean.mean(axis=0)) @ noises.directions(1, rng)[0]
        sigma = level * np.exp(0.5 * np.clip(slope / max(slope.std(), 1e-300), -2, 1))
    kind = "gaussian" if rng.random() < 2 / 3 else str(rng.choice(list(noises.KINDS)))
    parameter = sigma / np.sqrt(noises.VARIANCE[kind])
    if kind == "correlated":
        return noises.correlated(clean, parameter, rng, float(spacing * rng.uniform(1, 4))), sigma
    return noises.KINDS[kind](clean, parameter, rng), sigma


def cropped(clean, noisy, sigma: np.ndarray, centre: np.ndarray, size: int, complete: float = np.inf) -> Pair:
    """The `size` noisy points [n, 3] nearest to `centre`, or those nearer than `complete` where they are fewer.

    `interior` is careful: it is never wrong, but may miss a point. In a ball of radius R a point at distance d has its
    k nearest inside when r_k ≤ R − d. As r_k is 1-Lipschitz in space, it is looked up for one point in eight only:
    r_k(x) ≤ r_k(y) + |x − y|.
    """
    distance = np.linalg.norm(noisy - centre, axis=1)
    order = np.argsort(distance)
    radius = min(complete, distance[order[size]] if size < len(noisy) else np.inf)
    rows = order[distance[order] < radius]
    inside = noisy[rows]
    some = inside[::8]
    reach = knn(inside, min(NEIGHBOURS, len(inside)), some)[0][:, -1]
    away, nearest = knn(some, 1, inside)
    bound = reach[nearest[:, 0]] + away[:, 0]
    return Pair(clean[rows], inside, sigma[rows], bound <= radius - distance[rows])
