"""Scans as sensors make them: rays of a raster meet a scene, the range is wrong in the ways of `sensor_errors`, views are merged.

No ray caster is needed: a scene is given as many more points with normals than there are rays, the nearest of those that fall
into a raster cell is taken, and the cell's ray meets the tangent plane there. So every surface of `shapes/` can be scanned.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from becalm.points.noise import correlated
from becalm.shapes import sensor_errors as errors
from becalm.shapes.scan_scenes import Scene, draw_near
from becalm.shapes.scene_parts import ScenePoints, thin_volumes
from becalm.shapes.sensor_patterns import Raster, fitted_raster, point_spacing, random_raster, unit

Rng = np.random.Generator


class Scan(NamedTuple):
    """A scan and what is true of it; rows belong together, lengths in the scene's units."""

    clean: np.ndarray
    """[n, 3] where the rays met the scene."""
    noisy: np.ndarray
    """[n, 3] what the sensor says."""
    normals: np.ndarray
    """[n, 3] unit normals at the clean places; zero off surfaces."""
    white: np.ndarray
    """[n] standard deviation across the surface of the error that neighbours do not share."""
    shared: np.ndarray
    """[n] standard deviation across the surface of the error that neighbours share."""
    length: np.ndarray
    """[n] over how far neighbours share it: where the correlation has fallen to 1/e."""
    surface: np.ndarray
    """[n] bool: on a surface; False for leaves, grass, wires, mixed pixels and strays."""


@dataclass(frozen=True)
class ErrorModel:
    """The errors of one scan; lengths in point spacings, shares from 0 to 1."""

    sigma: float = 0.5
    """Standard deviation along the ray of the white and the correlated error together."""
    correlated: float = 0.5
    """Share of its variance that is correlated."""
    length: tuple[float, float] = (3.0, 3.0)
    """Blur of the correlated error, in columns and rows."""
    wide: float = 0.0
    """Share of the correlated error's variance that is blurred three times as far."""
    power: float = 0.0
    """Growth of the error with range, as a power of it."""
    incidence: float = 0.0
    """Growth with incidence θ, as a power of 1/cos θ."""
    step: float = 0.0
    """Quantum of the range; 0 for none."""
    disparity: bool = False
    """The quantum is one of disparity."""
    stripe: float = 0.0
    """Standard deviation of what a whole scan line is off by."""
    drift: bool = False
    """Stripes drift from line to line."""
    mixed: float = 0.0
    """Share of the rays beside depth edges whose range lies between the two surfaces."""
    strays: float = 0.0
    """Share of the rays with a range of nowhere."""
    layers: float = 0.0
    """How far merged views are off each other."""
    returns: int = 1
    """Returns of a ray at most: leaves and wires let some of it pass, a surface ends it."""


def random_errors(rng: Rng) -> ErrorModel:
    """Errors as they are found on real sensors: σ of a tenth to twice the spacing, nearly none in one of five, one in five white,
    the rest mostly correlated over one to ten spacings, one in five quantised."""
    sigma = float(np.exp(rng.normal(np.log(0.45), 0.9)).clip(0.02, 4))
    if rng.random() < 0.18:
        sigma = float(rng.choice([0.0, np.exp(rng.uniform(np.log(0.01), np.log(0.2)))], p=[0.4, 0.6]))
    length = np.exp(rng.normal(np.log(2.5), 0.5)).clip(0.7, 8)
    along = length * (np.exp(rng.uniform(-1.5, 1.5)) if rng.random() < 0.25 else 1.0)
    quantised = rng.random() < 0.2
    return ErrorModel(
        sigma=sigma,
        correlated=0.0 if rng.random() < 0.2 else float(rng.beta(4, 1.2)),
        length=(float(along), float(length)),
        wide=float(rng.uniform(0, 0.4)) if rng.random() < 0.25 else 0.0,
        power=float(rng.choice([0, 0, 1, 2])),
        incidence=float(rng.choice([0, 0, 0.5, 1])),
        step=float(np.exp(rng.uniform(np.log(0.2), np.log(4)))) if quantised else 0.0,
        disparity=bool(rng.random() < 0.5),
        stripe=sigma * float(rng.uniform(0.2, 1)) if rng.random() < 0.12 else 0.0,
        drift=bool(rng.random() < 0.5),
        mixed=float(rng.uniform(0.1, 0.6)) if rng.random() < 0.35 else 0.0,
        strays=float(rng.uniform(0.001, 0.02)) if rng.random() < 0.2 else 0.0,
        layers=float(np.exp(rng.uniform(np.log(0.15), np.log(1.5)))) if rng.random() < 0.6 else 0.0,
        returns=int(rng.integers(2, 7)) if rng.random() < 0.4 else 1,
    )


class Hits(NamedTuple):
    """Where the rays of one view met the scene."""

    column: np.ndarray
    row: np.ndarray
    start: np.ndarray
    direction: np.ndarray
    range: np.ndarray
    cosine: np.ndarray
    normals: np.ndarray
    surface: np.ndarray


def first_hits(raster: Raster, scene: ScenePoints, limit: float, returns: int = 1) -> Hits:
    """The rays through the middle of every raster cell that holds a point of the scene, and where each meets it first.

    With `returns` above 1 a ray has so many at most: those of what is no surface, up to the first surface. A hit farther than
    `limit` from the point that stands for the surface, or flatter than 82°, is no return.
    """
    column, row = (np.floor(x).astype(np.int64) for x in raster.project(scene.points))
    start, direction = raster.rays(column + 0.5, row + 0.5)
    depth = np.einsum("nc,nc->n", scene.points - start, direction)
    width = int(column.max() - column.min()) + 1
    cell = (row - row.min()) * width + column - column.min()
    order = np.lexsort((depth, cell))
    begins = np.r_[True, cell[order][1:] != cell[order][:-1]]
    start_of = np.maximum.accumulate(np.where(begins, np.arange(len(order)), 0))
    met = np.r_[0, np.cumsum(scene.surface[order])]  # surfaces met before each of them
    passed = met[:-1] == met[start_of]
    first = order[passed & (np.arange(len(order)) - start_of < returns)]
    first = first[depth[first] > 0]
    points, o, d = scene.points[first], start[first], direction[first]
    normals = np.where(scene.surface[first, None], scene.normals[first], -d)
    cosine = np.einsum("nc,nc->n", d, normals)
    steep = np.abs(cosine) > 0.14
    range_ = np.einsum("nc,nc->n", points - o, normals) / np.where(steep, cosine, 1)
    near = np.linalg.norm(o + range_[:, None] * d - points, axis=1) < limit
    good = steep & near & (range_ > 0)
    kept = first[good]
    return Hits(
        column[kept], row[kept], o[good], d[good], range_[good], np.abs(cosine[good]),
        np.where(scene.surface[kept, None], normals[good], 0.0), scene.surface[kept],
    )  # fmt: skip


def measure_ranges(
    hits: Hits, model: ErrorModel, spacing: float, rng: Rng
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Ranges [n] as measured, σ white and σ shared [n] across the surface, and which are no surface (mixed, strays)."""
    factor = errors.growth(hits.range, hits.cosine, model.power, model.incidence) * spacing
    share = model.correlated
    white = model.sigma * np.sqrt(1 - share) * factor
    smooth = model.sigma * np.sqrt(share) * factor
    error = white * rng.standard_normal(len(factor))
    if share:
        fields = [
            errors.raster_field(hits.column, hits.row, (f * model.length[0], f * model.length[1]), rng) for f in (1, 3)
        ]
        error += smooth * (np.sqrt(1 - model.wide) * fields[0] + np.sqrt(model.wide) * fields[1])
    if model.stripe:
        error += model.stripe * spacing * errors.stripes(hits.row, rng, model.drift)
    range_ = hits.range + error
    shared = smooth**2 + (model.stripe * spacing) ** 2
    if model.step:
        range_ = errors.quantise_range(range_, model.step * spacing, model.disparity)
        shared = shared + errors.quantum(hits.range, model.step * spacing, model.disparity) ** 2 / 12
    false = np.zeros(len(range_), bool)
    if model.mixed:
        edge, across = errors.edges(hits.column, hits.row, hits.range, 5 * spacing)
        false = edge & (rng.random(len(edge)) < model.mixed)
        range_ = np.where(false, hits.range + (across - hits.range) * rng.uniform(0.1, 0.9, len(edge)), range_)
    if model.strays:
        stray = rng.random(len(range_)) < model.strays
        range_ = np.where(stray, hits.range * rng.uniform(0.7, 1.3, len(range_)), range_)
        false |= stray
    return range_, white * hits.cosine, np.sqrt(shared) * hits.cosine, false


def view(hits: Hits, model: ErrorModel, spacing: float, pixel: float, rng: Rng) -> Scan:
    """One scan of one view."""
    range_, white, shared, false = measure_ranges(hits, model, spacing, rng)
    clean = hits.start + hits.range[:, None] * hits.direction
    noisy = hits.start + range_[:, None] * hits.direction
    length = np.full(len(clean), 2 * (1 + 2 * model.wide) * np.sqrt(model.length[0] * model.length[1]) * pixel)
    return Scan(clean, noisy, hits.normals, white, shared, length, hits.surface & ~false)


def merge_views(views: list[Scan], model: ErrorModel, spacing: float, extent: float, rng: Rng) -> Scan:
    """Views put together, each a little off its place."""
    scan = Scan(*(np.concatenate(rows) for rows in zip(*views, strict=True)))
    if len(views) < 2 or not model.layers:
        return scan
    size, parts = model.layers * spacing, []
    for one in views:
        turn, shift = errors.misregistration(rng, size, extent)
        parts.append(one.noisy @ turn.T + shift)
    wide = np.maximum(scan.length, extent * (scan.shared < size))
    return scan._replace(noisy=np.concatenate(parts), shared=np.sqrt(scan.shared**2 + size**2 / 3), length=wide)


@dataclass(frozen=True)
class Region:
    """What is scanned: the part of a scene within a ball, by about so many points."""

    scene: Scene
    """The scene."""
    centre: np.ndarray
    """[3] of the ball."""
    radius: float
    """Of the ball."""
    count: int
    """Points of the scan."""


def sensor_scan(
    region: Region, model: ErrorModel, rng: Rng, pattern: str | None = None, views: int | None = None
) -> Scan:
    """A part of a scene, scanned from one to five places, or from `views`, by a random pattern, or one of PATTERNS or
    "photogrammetry"."""
    scene, centre, radius = region.scene, region.centre, region.radius
    places = draw_near(scene, centre, radius, 12 * region.count, rng)
    if len(places.points) < 1000:
        return empty_scan()
    count = max(min(region.count, len(places.points) // 6), 1)
    places = thin_volumes(places, rng)
    number = views or (
        int(rng.integers(3, 7)) if scene.around else 1 if rng.random() < 0.7 else int(rng.integers(2, 6))
    )
    if pattern == "photogrammetry" or (pattern is None and rng.random() < 0.12):
        return photogrammetry(places, centre, radius, count, model, rng)
    hits = []
    for _ in range(number):
        raster = random_raster(rng, np.zeros(3), scene.radius, scene.upright, pattern)
        raster = fitted_raster(raster, places.points, int(count / number * rng.uniform(0.6, 1.2)))
        met = first_hits(raster, places, 0.2 * radius, model.returns)
        hits += [met] if len(met.range) > 200 and raster_cells(met) < MAX_RASTER_CELLS else []
    if not hits:
        return photogrammetry(places, centre, radius, count, model, rng)
    clean = np.concatenate([h.start + h.range[:, None] * h.direction for h in hits])
    spacing = point_spacing(clean)
    limited = limit_errors(model, spacing, radius)
    scans = [view(h, limited, spacing, spacing * np.sqrt(len(hits)), rng) for h in hits]
    return merge_views(scans, limited, spacing, radius, rng)


MAX_RASTER_CELLS = 2_000_000
"""Views whose raster has more cells, nearly all of them empty, are left out: their errors would be drawn for all."""


def raster_cells(hits: Hits) -> int:
    """The cells of the raster that holds all hits."""
    return int(np.ptp(hits.column) + 1) * int(np.ptp(hits.row) + 1)


def empty_scan() -> Scan:
    """A scan without points."""
    none, places = np.empty(0), np.empty((0, 3))
    return Scan(places, places, places, none, none, none, np.empty(0, bool))


def limit_errors(model: ErrorModel, spacing: float, radius: float) -> ErrorModel:
    """The errors, none larger than a twelfth of the part that is scanned."""
    most = radius / 12 / spacing
    return replace(
        model, sigma=min(model.sigma, most), step=min(model.step, most), stripe=min(model.stripe, most),
        layers=min(model.layers, most),
    )  # fmt: skip


def photogrammetry(
    places: ScenePoints, centre: np.ndarray, radius: float, count: int, model: ErrorModel, rng: Rng
) -> Scan:
    """Points matched in photographs: anywhere on the surface, errors along rays of a few cameras that neighbours in space share,
    thinned to one a cell of a voxel grid, of which some programs give the middle."""
    rows = rng.choice(len(places.points), min(len(places.points), int(1.5 * count)), replace=False)
    points, normals, surface = places.points[rows], places.normals[rows], places.surface[rows]
    spacing = point_spacing(points) * 1.22
    model = limit_errors(model, spacing, radius)
    eyes = centre + unit(rng.standard_normal((3, 3))) * 3 * radius
    ray = unit(points - eyes[rng.integers(3, size=len(points))])
    length = float(np.sqrt(model.length[0] * model.length[1])) * spacing
    white, smooth = model.sigma * spacing * np.sqrt([1 - model.correlated, model.correlated])
    error = white * rng.standard_normal(len(points))
    if smooth:
        error += correlated(points, smooth, rng, length)[:, 0]
    noisy = points + error[:, None] * ray
    cosine = np.where(surface, np.abs(np.einsum("nc,nc->n", ray, normals)), 1.0)
    shared = smooth * cosine
    if rng.random() < 0.7:
        cell = spacing * rng.uniform(0.7, 1.3)
        index = np.floor(noisy / cell).astype(np.int64)
        kept = np.sort(np.unique(index, axis=0, return_index=True)[1])
        if rng.random() < 0.3:
            noisy = (index + 0.5) * cell
            shared = np.sqrt(shared**2 + cell**2 / 12)
    else:
        kept = np.arange(min(count, len(points)))
    whole = Scan(points, noisy, normals, white * cosine, shared, np.full(len(points), 1.4 * length), surface)
    return Scan(*(rows[kept] for rows in whole))
