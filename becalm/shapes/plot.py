"""Pictures of shapes: rows and columns of point clouds or meshes, seen from the front, above and aside, shaded."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from becalm.core.files import InputError, atomic_file
from becalm.points.mesh import Mesh, sample
from becalm.points.rays import surface_normals

AZIMUTH, ELEVATION = 35.0, 22.0
"""Degrees from which shapes (y up) are seen."""
LIGHT_DIRECTION = np.array([0.35, 0.75, 0.56])
MAX_PIXELS = 100_000_000
"""Pixels of a picture."""
MAX_POINTS = 50_000
"""Points of a shape that are drawn."""
TITLE_HEIGHT = 24
"""Pixels above a picture that has a title."""


def rotate_to_view(vectors: np.ndarray, azimuth: float = AZIMUTH, elevation: float = ELEVATION) -> np.ndarray:
    """Vectors [..., 3] as (right, up, towards the viewer), for y up."""
    a, e = np.radians((azimuth, elevation))
    aside = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    above = np.array([[1, 0, 0], [0, np.cos(e), -np.sin(e)], [0, np.sin(e), np.cos(e)]])
    return vectors @ (above @ aside).T


def render_points(
    points: np.ndarray, side: int, colours: np.ndarray | None = None, normals: np.ndarray | None = None
) -> np.ndarray:
    """An image [side, side, 3] uint8 of points [n, 3] within [−1, 1]³: dots, the darker the nearer, or of colours [n, 3].

    With `normals` [n, 3], up to their sign, they are lit from above. All shapes are drawn to one scale, the cube's corners just
    inside. A point is a dot two pixels wide at 200 pixels.
    """
    view = rotate_to_view(np.asarray(points, np.float64))
    nearness = np.clip(0.5 + view[:, 2] / 2.4, 0, 1)[:, None]
    base = np.array([[0.16, 0.27, 0.45]]) if colours is None else colours
    shade = base * (0.35 + 0.65 * nearness) + 0.72 * (1 - nearness) * (1 - base * 0.6)
    if normals is not None:
        lit = np.abs(rotate_to_view(normals) @ LIGHT_DIRECTION)[:, None]
        shade = (1 - 0.15 * (1 - nearness)) * (base * (0.3 + 0.7 * lit) + 0.55 * lit**2)
    return _splat(view, np.clip(shade, 0, 1), side, max(1, round(side / 100)))


def render_mesh(mesh: Mesh, side: int, rng: np.random.Generator) -> np.ndarray:
    """An image [side, side, 3] uint8 of a mesh within [−1, 1]³, lit from above: three random points a pixel, nearest first."""
    points, normals = sample(mesh, 3 * side * side, rng)
    shade = 0.2 + 0.75 * np.abs(rotate_to_view(normals) @ LIGHT_DIRECTION)[:, None]
    return _splat(rotate_to_view(points), shade * np.array([[0.72, 0.8, 0.92]]), side, max(1, round(side / 200)))


def _splat(view: np.ndarray, colours: np.ndarray, side: int, dot: int) -> np.ndarray:
    """Square dots of a width in pixels on white; the nearest to the viewer hides the others."""
    tile = np.full((side, side, 3), 255, np.uint8)
    order = np.argsort(view[:, 2], kind="stable")
    column = np.rint((0.5 + view[order, 0] / 3.2) * side - dot / 2).astype(int)
    row = np.rint((0.5 - view[order, 1] / 3.2) * side - dot / 2).astype(int)
    ink = (255 * colours[order]).astype(np.uint8)
    for down in range(dot):
        for right in range(dot):
            i, j = row + down, column + right
            inside = (i >= 0) & (i < side) & (j >= 0) & (j < side)
            place = i[inside] * side + j[inside]
            last = len(place) - 1 - np.unique(place[::-1], return_index=True)[1]  # the one drawn last is the nearest
            tile.reshape(-1, 3)[place[last]] = ink[inside][last]
    return tile


def tile_grid(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Tiles [side, side, 3] row by row in one image, white where none is left. Raises InputError: none, or too many."""
    if not len(tiles) or columns < 1:
        raise InputError(f"picture: {len(tiles)} shapes in {columns} columns; give 1 or more of both")
    side, rows = tiles[0].shape[0], -(-len(tiles) // columns)
    if rows * columns * side * side > MAX_PIXELS:
        raise InputError(
            f"picture: {rows} × {columns} tiles of {side} pixels are more than {MAX_PIXELS:,} pixels; make it smaller"
        )
    full = np.full((rows * columns, side, side, 3), 255, np.uint8)
    full[: len(tiles)] = tiles
    return full.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)


def draw_clouds(
    points: np.ndarray,
    path: Path,
    columns: int = 8,
    side: int | None = None,
    given: np.ndarray | None = None,
    title: str = "",
) -> None:
    """Write a PNG of shapes [s, n, 3] within [−1, 1]³: samples, or interpolations with a path in each row.

    All are enlarged by the factor that makes the largest fill its tile, of `side` pixels (320, or 200 for more than 16 shapes),
    and lit by their normals.
    given: bool [s, n], points that were given (a completion): drawn orange, the others blue. Raises InputError, OSError.
    """
    shapes = np.asarray(points)
    if shapes.ndim != 3 or shapes.shape[2] != 3 or not np.isfinite(shapes).all():
        raise InputError(f"picture: points of shape {shapes.shape} must be [shape, n, 3] and finite")
    every = max(1, -(-shapes.shape[1] // MAX_POINTS))
    shapes = shapes[:, ::every]
    blue, orange = np.array([0.16, 0.27, 0.45]), np.array([0.85, 0.45, 0.1])
    colours = None if given is None else np.where(np.asarray(given)[:, ::every, None], orange, blue)
    side = side or (320 if len(shapes) <= 16 else 200)
    reach = np.abs(rotate_to_view(shapes)[..., :2]).max(initial=0)
    scale = 1.5 / reach if reach else 1.0
    tiles = [
        render_points(scale * x, side, None if colours is None else colours[i], surface_normals(x))
        for i, x in enumerate(shapes)
    ]
    save_png(tile_grid(tiles, min(columns, max(len(tiles), 1))), path, title)


def draw_meshes(meshes: Sequence[Mesh], path: Path, columns: int = 8, side: int = 240, seed: int = 0) -> None:
    """Write a PNG of meshes within [−1, 1]³. Raises InputError, OSError."""
    rng = np.random.default_rng(seed)
    save_png(tile_grid([render_mesh(m, side, rng) for m in meshes], min(columns, max(len(meshes), 1))), path)


def save_png(image: np.ndarray, path: Path, title: str = "") -> None:
    """Write an image [height, width, 3] uint8 as PNG, below a line with its title; whole or not at all."""
    from PIL import Image, ImageDraw, ImageFont

    if title:
        image = np.concatenate([np.full((TITLE_HEIGHT, *image.shape[1:]), 255, np.uint8), image])
    picture = Image.fromarray(image)
    if title:
        ImageDraw.Draw(picture).text((8, 4), title, (60, 60, 60), ImageFont.load_default(14))
    with atomic_file(path) as temporary:
        picture.save(temporary, format="PNG")
