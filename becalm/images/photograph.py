"""A photograph or scan of a Sudoku: its frame is found and straightened, its lines are removed, its empty cells are found."""

import numpy as np
import torch

from becalm.core.files import InputError
from becalm.core.typing import Bool, Float, Tensor

WORKING_SIDE = 900
"""Longer side in pixels of the image in which the frame is looked for, and about the side of the straightened grid."""

MIN_FRAME = 0.15
"""Least side of the frame, over the shorter side of the image."""

CELL = 28
"""Side in pixels of a cell that comes out, of which a digit fills 20, as in MNIST."""

MIN_INK = 0.012
"""Least share of a cell that a digit's ink covers."""


def extract_grid(
    photograph: Float[Tensor, "height width"], side: int, name: str = "image"
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows columns"]]:
    """The grid of a photograph as a puzzle: an image of side × side cells of 28 pixels, ink 1 and paper 0, and its mask.

    Every digit is centred by its mass and has 20 pixels in its longer dimension. In the mask empty cells are white. Raises
    InputError where no frame is found, and where all cells are empty or none is.
    """
    try:
        import skimage  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{name}: photographs need scikit-image ({error}); pip install becalm[images]") from error
    grey = resize_to_working_side(photograph.numpy().astype(np.float64))
    ink = separate_ink(grey)
    corners = find_frame(ink > 0.5, name)
    pixels = WORKING_SIDE // side
    square = straighten(ink, corners, side * pixels)
    lines = find_lines(square, pixels)
    cells = [
        extract_digit(
            square[r * pixels : (r + 1) * pixels, c * pixels : (c + 1) * pixels], lines_of(lines, r, c, pixels)
        )
        for r in range(side)
        for c in range(side)
    ]
    empty = np.array([cell is None for cell in cells])
    if empty.all() or not empty.any():
        what = "only empty cells were found in it" if empty.all() else "no empty cell was found in it"
        raise InputError(f"{name}: {what}; photograph the whole grid in even light, or give an image and --mask")
    images = np.stack([np.zeros((CELL, CELL)) if cell is None else cell for cell in cells])
    return join_cells(images, side), join_cells(np.broadcast_to(empty[:, None, None], images.shape), side)


def join_cells(cells: np.ndarray, side: int) -> Float[Tensor, "rows columns"]:
    """Cells [cell, height, width], row by row, as one image."""
    tiles = cells.reshape(side, side, *cells.shape[1:]).swapaxes(1, 2)
    return torch.from_numpy(tiles.reshape(side * cells.shape[1], -1).astype(np.float32))


def resize_to_working_side(grey: np.ndarray) -> np.ndarray:
    """The image with its longer side brought to WORKING_SIDE · 1.5 where it is longer; smaller ones stay."""
    from skimage.transform import rescale

    scale = 1.5 * WORKING_SIDE / max(grey.shape)
    return rescale(grey, scale, anti_aliasing=True) if scale < 1 else grey


def separate_ink(grey: np.ndarray) -> Float[np.ndarray, "height width"]:
    """How much each pixel is ink, 0 to 1: its darkness against the paper around it, whatever the light; light on dark is turned.

    The paper is a wide Gaussian mean. Ink is full at the 99th percentile of darkness, and noise below a fifth of it is paper.
    """
    from scipy.ndimage import gaussian_filter

    paper = gaussian_filter(grey, max(grey.shape) / 30)
    darkness = paper - grey
    if np.percentile(darkness, 99.5) < -np.percentile(darkness, 0.5):
        darkness = -darkness
    full = max(float(np.percentile(darkness, 98)), 1e-6)
    return ((darkness / full - 0.2) / 0.6).clip(0, 1)


def find_frame(ink: Bool[np.ndarray, "height width"], name: str) -> Float[np.ndarray, "4 2"]:
    """The corners (x, y) of the grid's frame, from the upper left one clockwise.

    The connected ink of largest extent, widened by a pixel, whose convex hull is nearly a quadrilateral. Raises InputError where
    there is none.
    """
    from scipy.ndimage import binary_dilation
    from skimage.measure import label, regionprops

    parts = sorted(regionprops(label(binary_dilation(ink), connectivity=2)), key=lambda part: -part.area_bbox)
    least = MIN_FRAME * min(ink.shape)
    for part in parts[:5]:
        top, left, bottom, right = part.bbox
        if min(bottom - top, right - left) < least:
            continue
        corners = quadrilateral(part.coords[:, ::-1].astype(float))
        if corners is not None:
            return corners
    raise InputError(
        f"{name}: no square grid with a closed frame was found; photograph the whole grid from above in even light, "
        "or give an image of its cells alone and --mask"
    )


def quadrilateral(points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, "4 2"] | None:
    """The four points that span the convex hull of points (x, y), from the upper left one clockwise.

    None where they cover less than nine tenths of the hull, or the shape is far from a square.
    """
    from scipy.spatial import ConvexHull

    hull = ConvexHull(points)
    ring = points[hull.vertices]
    total, difference = ring.sum(1), ring[:, 0] - ring[:, 1]
    picks = total.argmin(), difference.argmax(), total.argmax(), difference.argmin()
    corners = ring[list(picks)]
    x, y = corners.T
    area = abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
    edges = np.linalg.norm(corners - np.roll(corners, -1, 0), axis=1)
    return corners if area > 0.9 * hull.volume and edges.min() > 0.4 * edges.max() else None


def straighten(
    ink: Float[np.ndarray, "height width"], corners: Float[np.ndarray, "4 2"], size: int
) -> Float[np.ndarray, "size size"]:
    """The quadrilateral of the image as a square, by the projective map of its corners."""
    from skimage.transform import ProjectiveTransform, warp

    goal = np.array([[0, 0], [size - 1, 0], [size - 1, size - 1], [0, size - 1]], float)
    projection = ProjectiveTransform.from_estimate(goal, corners)
    return warp(ink, projection, output_shape=(size, size), order=1)


def find_lines(square: Float[np.ndarray, "size size"], pixels: int) -> Bool[np.ndarray, "size size"]:
    """The ink of the grid's lines: runs of at least a cell's side, across or down, within a sixth of a cell of where lines are.

    The ink is closed over gaps of a tenth of a cell first, since lines are worn; and the lines are widened a little.
    """
    from scipy.ndimage import binary_closing, binary_dilation, binary_opening

    ink, near = square > 0.3, np.abs((np.arange(len(square)) + pixels / 2) % pixels - pixels / 2) < pixels / 6
    lines = np.zeros_like(ink)
    for axis in (0, 1):
        bar = np.ones((1, pixels) if axis else (pixels, 1), bool)
        gap = np.ones((1, pixels // 10) if axis else (pixels // 10, 1), bool)
        runs = np.asarray(binary_opening(binary_closing(np.pad(ink, pixels), gap), bar), bool)
        lines |= runs[pixels:-pixels, pixels:-pixels] & (near[:, None] if axis else near[None])
    return binary_dilation(lines, iterations=max(1, pixels // 40))


def lines_of(lines: np.ndarray, row: int, column: int, pixels: int) -> np.ndarray:
    """The part of the lines in a cell."""
    return lines[row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels]


def extract_digit(
    cell: Float[np.ndarray, "pixel pixel"], lines: Bool[np.ndarray, "pixel pixel"]
) -> Float[np.ndarray, "28 28"] | None:
    """The digit of a cell as MNIST has its digits: 20 pixels in its longer dimension, its mass in the middle; None where
    the cell is empty.

    The digit is all ink, without the grid's lines, that belongs to a part which comes near the cell's middle.
    """
    from scipy.ndimage import shift
    from skimage.measure import label
    from skimage.transform import resize

    ink = np.where(lines, 0.0, cell)
    parts = np.asarray(label(ink > 0.4, connectivity=2))
    side = len(cell)
    inner = slice(side // 5, side - side // 5)
    central = [k for k in range(1, parts.max() + 1) if (parts[inner, inner] == k).sum() > MIN_INK * side**2 / 4]
    kept = np.isin(parts, central)
    if kept.sum() < MIN_INK * side**2:
        return None
    rows, columns = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
    around = np.where(kept | (parts == 0), ink, 0.0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = 20 / max(around.shape)
    height, width = (max(1, round(length * scale)) for length in around.shape)
    small = np.asarray(resize(around, (height, width), anti_aliasing=True, order=1))
    small = small / max(small.max(), 1e-6)
    image = np.zeros((CELL, CELL))
    top, left = (CELL - height) // 2, (CELL - width) // 2
    image[top : top + height, left : left + width] = small
    places = np.arange(CELL)
    middle = (image.sum(1) @ places / image.sum(), image.sum(0) @ places / image.sum())
    return shift(image, [(CELL - 1) / 2 - m for m in middle], order=1).clip(0, 1)
