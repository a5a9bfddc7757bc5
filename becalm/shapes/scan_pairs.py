"""Pairs of one's own: scans and what they should have been, a cleaner scan registered to them or a mesh, to fine-tune a denoiser.

A folder holds NAME.noisy.EXT beside NAME.reference.EXT for each pair. Of a scan a fifth, at one end, is held out: nothing is
learned from it, and the fine-tuned model is measured on it.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from becalm.core.files import InputError
from becalm.points import mesh as mesh_tools
from becalm.points.formats import FORMATS, read
from becalm.points.neighbours import knn
from becalm.points.triangles import nearest_surface_points
from becalm.shapes import meshfiles
from becalm.shapes.cloud_pairs import CloudPair, crop_pair
from becalm.shapes.sensor_patterns import point_spacing

HELD_OUT = 0.2
"""Share of each scan that is only measured on."""

MAX_SHIFT = 8.0
"""Spacings by which the middle of a scan may be off its reference, in any direction, and still count as registered."""

Rng = np.random.Generator


class ScanPair(NamedTuple):
    """A scan beside its reference; rows belong together, lengths in the scan's units."""

    name: str
    """Of the pair."""
    noisy: np.ndarray
    """[n, 3] about a near origin."""
    reference: np.ndarray
    """[n, 3] the nearest place of the reference to each point."""
    normals: np.ndarray
    """[n, 3] unit normals of the reference there."""
    covered: np.ndarray
    """Bool [n]: the reference is near enough to say where the point should be."""
    held_out: np.ndarray
    """Bool [n]: in the part that is not learned from."""


@lru_cache(maxsize=2)
def read_scan_pairs(folder: Path) -> list[ScanPair]:
    """All pairs of a folder. Raises InputError where there is none, a reference lacks, or the two do not fit each other."""
    pairs = []
    for noisy in sorted(folder.glob("*.noisy.*")):
        name = noisy.name.split(".noisy.")[0]
        references = sorted(folder.glob(f"{name}.reference.*"))
        if len(references) != 1:
            raise InputError(f"{noisy}: {len(references)} references; give one, {name}.reference.ply or the like")
        pairs.append(match_scan(name, noisy, references[0]))
    if not pairs:
        raise InputError(f"{folder}: no NAME.noisy.* in it; put each scan there beside its NAME.reference.*")
    return pairs


def match_scan(name: str, noisy: Path, reference: Path) -> ScanPair:
    """A scan matched to its reference file, a mesh or a cloud. Raises InputError where they are not registered."""
    xyz = read(noisy).xyz
    xyz = xyz[np.isfinite(xyz).all(1)]
    if len(xyz) < 1000:
        raise InputError(f"{noisy}: {len(xyz)} points; at least 1,000 are needed to learn from")
    origin = xyz.mean(0)
    places, normals = nearest_on_reference(xyz, reference)
    check_registration(xyz, places, noisy, reference)
    distance = np.linalg.norm(xyz - places, axis=1)
    covered = distance < 8 * np.median(distance) + 2 * point_spacing(xyz)
    along = np.linalg.svd((xyz - origin)[:: max(1, len(xyz) // 5000)], full_matrices=False)[2][0]
    place = (xyz - origin) @ along
    return ScanPair(name, xyz - origin, places - origin, normals, covered, place > np.quantile(place, 1 - HELD_OUT))


def nearest_on_reference(xyz: np.ndarray, reference: Path) -> tuple[np.ndarray, np.ndarray]:
    """The nearest places [n, 3] on a reference to points [n, 3], and the normals there.

    A file with triangles is a surface. Of a cloud the surface is the plane of the twelve points around the nearest one, and
    beyond its border that point itself.
    """
    if reference.suffix.lower() in meshfiles.READERS:
        try:
            mesh = meshfiles.read(reference)
        except InputError:
            if reference.suffix.lower() not in FORMATS:
                raise
        else:
            nearest = nearest_surface_points(xyz, mesh_tools.triangles(mesh))
            return nearest.points, mesh_tools.normals_and_areas(mesh)[0][nearest.triangles]
    cloud = read(reference).xyz
    cloud = cloud[np.isfinite(cloud).all(1)]
    if len(cloud) < 12:
        raise InputError(f"{reference}: {len(cloud)} points; too few for a reference")
    first = knn(cloud, 1, xyz)[1][:, 0]
    around = cloud[knn(cloud, 12)[1]]
    middle = around.mean(1)
    away = around - middle[:, None]
    normals = np.linalg.eigh(np.einsum("nki,nkj->nij", away, away))[1][:, :, 0]
    height = np.einsum("nc,nc->n", xyz - middle[first], normals[first])
    places = xyz - height[:, None] * normals[first]
    beyond = np.linalg.norm(places - cloud[first], axis=1) > 3 * point_spacing(cloud)
    return np.where(beyond[:, None], cloud[first], places), normals[first]


def check_registration(xyz: np.ndarray, places: np.ndarray, noisy: Path, reference: Path) -> None:
    """Raise InputError where a scan and its reference differ in size, as in other units, or are off each other."""
    size, other = (float(np.linalg.norm(np.ptp(x, axis=0))) for x in (xyz, places))
    shift = np.median(places - xyz, axis=0)
    spacing = point_spacing(xyz)
    if other < 0.2 * size:
        raise InputError(
            f"{reference}: covers {other:.3g} of {noisy.name}'s {size:.3g}; is it in other units? give the same"
        )
    if np.linalg.norm(shift) > MAX_SHIFT * spacing:
        raise InputError(
            f"{reference}: lies {np.linalg.norm(shift):.3g} away from {noisy.name} ({np.linalg.norm(shift) / spacing:.0f} "
            "times its spacing); register them to each other first"
        )


def random_crop(pairs: list[ScanPair], rng: Rng) -> CloudPair:
    """A training item: 3 000 to 8 000 points around a random one that is covered and not held out."""
    pair = pairs[rng.integers(len(pairs))]
    usable = pair.covered & ~pair.held_out
    centre = pair.noisy[rng.choice(np.flatnonzero(usable))]
    size = int(rng.integers(3000, 8000))
    near = np.argsort(np.linalg.norm(pair.noisy - centre, axis=1))[: int(1.3 * size)]
    error = np.einsum("nc,nc->n", pair.noisy - pair.reference, pair.normals)[near]
    sigma, share = local_noise(pair.noisy[near], error)
    item = CloudPair(
        pair.reference[near], pair.noisy[near], sigma, usable[near], sigma * np.sqrt(share),
        np.full(len(near), 4 * point_spacing(pair.noisy[near])), np.ones(len(near), bool), pair.normals[near],
    )  # fmt: skip
    cropped = crop_pair(item, centre, size)
    return cropped._replace(interior=cropped.interior & usable[near][knn(pair.noisy[near], 1, cropped.noisy)[1][:, 0]])


def local_noise(points: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The root mean square [n] of signed errors [n] over 128 neighbours, and the share of its square that 25 neighbours have in
    common."""
    wide, near = (knn(points, min(k, len(points)))[1] for k in (128, 25))
    total = np.square(error)[wide].mean(1)
    common = np.square(error[near].mean(1))[wide].mean(1)
    share = np.clip((common / np.maximum(total, 1e-300) - 1 / 25) * 25 / 24, 0, 1)
    return np.sqrt(total), share


def held_out_error(pairs: list[ScanPair], denoise: Callable[[np.ndarray], np.ndarray]) -> dict[str, float]:
    """Root mean square distance to the reference after over before, of the held-out part of each pair; `denoise` maps points
    [n, 3] to points."""
    ratios = {}
    for pair in pairs:
        compared = pair.covered & pair.held_out
        after = denoise(pair.noisy)
        errors = [np.einsum("nc,nc->n", x - pair.reference, pair.normals)[compared] for x in (pair.noisy, after)]
        before, left = (float(np.sqrt(np.mean(e**2))) for e in errors)
        ratios[pair.name] = left / max(before, 1e-300)
    return ratios
