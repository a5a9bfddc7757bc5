"""Training pairs for cloud denoisers: a clean cloud and the same points with noise, as a pure function of seed and index."""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.points import mesh as mesh_tools
from becalm.points import noise as noise_laws
from becalm.points.elimination import eliminate_samples
from becalm.points.neighbours import knn
from becalm.shapes.charts import SurfaceSampler
from becalm.shapes.random_surfaces import random_surface_sampler, rotation
from becalm.shapes.relief import relief
from becalm.shapes.scan_scenes import object_source, radius_of_share, random_place, random_scene
from becalm.shapes.simulated_sensor import Region, random_errors, sensor_scan

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
    shared: np.ndarray
    """[n] the part of `sigma` that neighbours have in common."""
    length: np.ndarray
    """[n] the distance over which they do."""
    surface: np.ndarray
    """[n] bool: the point is of a surface."""
    normals: np.ndarray | None = None
    """[n, 3] normals at the clean positions, where they are known."""

    def select(self, rows: np.ndarray) -> "CloudPair":
        """Some of its points."""
        return CloudPair._make(None if part is None else part[rows] for part in self)

    def transform(self, turn: np.ndarray, scale: float) -> "CloudPair":
        """The pair turned by a rotation [3, 3] and scaled."""
        clean, noisy = (x @ turn.T * scale for x in (self.clean, self.noisy))
        normals = None if self.normals is None else self.normals @ turn.T
        sigma, shared, length = (x * scale for x in (self.sigma, self.shared, self.length))
        return CloudPair(clean, noisy, sigma, self.interior, shared, length, self.surface, normals)


def white_pair(
    clean: np.ndarray, noisy: np.ndarray, sigma: np.ndarray, interior: np.ndarray | None = None
) -> CloudPair:
    """A pair of clouds [n, 3] of a surface whose noise, of level `sigma` [n], neighbours do not share."""
    every, none = np.ones(len(clean), bool), np.zeros(len(clean))
    return CloudPair(clean, noisy, sigma, every if interior is None else interior, none, none, every)


def training_pair(seed: int, index: int, meshes: Path | None = None, scanned: float = 0.65) -> CloudPair:
    """Item `index` of the endless training set `seed`: with probability `scanned` as a sensor makes it, else a `cloud_pair`."""
    rng = np.random.default_rng([seed, index, 1])
    return sensor_pair(rng, meshes) if rng.random() < scanned else cloud_pair(seed, index, meshes)


def sensor_pair(rng: np.random.Generator, meshes: Path | None = None) -> CloudPair:
    """A part of a simulated scan: 3 000 to 9 000 points out of scans of 4 000 to 20 million (shapes/simulated_sensor.py).

    Parts without any surface are drawn anew nine times in ten.
    """
    files = training_mesh_files(meshes) if meshes else ()
    source = object_source(files)
    while True:
        scene, model, count = random_scene(rng, source), random_errors(rng), int(rng.integers(3000, 9000))
        centre = random_place(scene, rng)
        share = count / np.exp(rng.uniform(*np.log(scene.total)))
        radius = radius_of_share(scene, centre, share, rng)
        scan = sensor_scan(Region(scene, centre, radius, count), model, rng)
        if len(scan.clean) > 500 and (scan.surface.mean() > 0.15 or rng.random() < 0.1):
            break
    sigma = np.sqrt(scan.white**2 + scan.shared**2)
    pair = CloudPair(
        scan.clean, scan.noisy, sigma, np.ones(len(sigma), bool), scan.shared, scan.length, scan.surface, scan.normals
    )
    whole = share >= 1
    margin = 3 * float(np.sqrt(np.mean(sigma**2)))
    pair = crop_pair(pair, centre, 12_000, np.inf if whole else max(radius - margin, radius / 2))
    return pair.transform(rotation(rng), float(np.exp(rng.uniform(-1, 1))))


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
    moved, sigma, length = random_noise(clean, level, spacing, rng)
    shared, every = np.where(length > 0, sigma, 0.0), np.ones(len(clean), bool)
    pair = CloudPair(clean, clean + moved, sigma, every, shared, np.full(len(clean), length), every)
    pair = crop_pair(pair, centre, size, complete)
    return pair.transform(rotation(rng), float(np.exp(rng.uniform(-1, 1))))


def random_sampler(rng: np.random.Generator, meshes: Path | None) -> SurfaceSampler:
    """A sampler of fine detail one time in five, else of a random mesh of the folder or of a procedural surface, evenly."""
    if rng.random() < 0.2:
        return relief(rng)
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
    """σ: 0 with probability 1/10, else uniform or log-uniform up to 4.5 spacings, at most 0.04 (object radii)."""
    greatest = min(4.5 * spacing, 0.04)
    u = rng.random()
    if u < 1 / 10:
        return 0.0
    return float(rng.uniform(0, greatest) if u < 0.65 else greatest * np.exp(rng.uniform(np.log(0.005), 0)))


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
    chosen = eliminate_samples(near, count) if rng.random() < 2 / 3 else rng.choice(len(near), count, replace=False)
    return near[chosen], radius


def random_noise(clean: np.ndarray, level: float, spacing: float, rng: np.random.Generator):
    """Displacements [n, 3] by a random law, their σ [n] and the distance over which neighbours share them (0: they do not).

    With probability 1/6 σ varies over the cloud.
    """
    sigma = np.full(len(clean), level)
    if rng.random() < 1 / 6:
        slope = (clean - clean.mean(axis=0)) @ noise_laws.unit_directions(1, rng)[0]
        sigma = level * np.exp(0.5 * np.clip(slope / max(slope.std(), 1e-300), -2, 1))
    kind = "gaussian" if rng.random() < 2 / 3 else str(rng.choice(list(noise_laws.LAWS)))
    parameter = sigma / np.sqrt(noise_laws.VARIANCE_FACTOR[kind])
    if kind == "correlated":
        length = float(spacing * rng.uniform(1, 4))
        return noise_laws.correlated(clean, parameter, rng, length), sigma, np.sqrt(2) * length
    return noise_laws.LAWS[kind](clean, parameter, rng), sigma, 0.0


def crop_pair(pair: CloudPair, centre: np.ndarray, size: int, complete: float = np.inf) -> CloudPair:
    """The `size` points whose noisy positions are nearest to `centre`, or those within `complete` where they are fewer.

    `interior` is conservative: it may be False for an interior point, never True for another. In a ball of radius R a point at
    distance d has its k nearest neighbours inside when r_k ≤ R − d. As r_k is 1-Lipschitz in space, it is computed for one point
    in eight only: r_k(x) ≤ r_k(y) + |x − y|.
    """
    distance = np.linalg.norm(pair.noisy - centre, axis=1)
    order = np.argsort(distance)
    radius = min(complete, distance[order[size]] if size < len(order) else np.inf)
    rows = order[distance[order] < radius]
    inside = pair.noisy[rows]
    some = inside[::8]
    radii = knn(inside, min(INTERIOR_NEIGHBOURS, len(inside)), some)[0][:, -1]
    away, nearest = knn(some, 1, inside)
    bound = radii[nearest[:, 0]] + away[:, 0]
    return pair.select(rows)._replace(interior=bound <= radius - distance[rows])
