"""Surfaces of fine detail: their points are on them, and their normals across them."""

import numpy as np
import pytest

from becalm.shapes.relief import HEIGHTS, WIDTHS, bumps, plate_faces, relief, rims, soft_step, strokes, waves


def test_normals_are_across_the_surface_and_detail_is_small():
    rng = np.random.default_rng(0)
    for _ in range(4):
        draw = relief(rng)
        points, normals = draw(4000, rng)
        assert np.linalg.norm(normals, axis=1) == pytest.approx(1)
        near = np.argsort(np.linalg.norm(points[:, None, :2] - points[None, :200, :2], axis=2), axis=0)[1:4]
        chord = points[near] - points[:200]
        lean = np.abs((chord * normals[:200]).sum(-1)) / np.linalg.norm(chord, axis=-1)
        assert np.median(lean) < 0.15
        bent = np.polynomial.polynomial.polyvander2d(*points.T[:2], [2, 2])
        left = points[:, 2] - bent @ np.linalg.lstsq(bent, points[:, 2], rcond=None)[0]
        assert 1e-4 < left.std() < 4 * HEIGHTS[1]


@pytest.mark.parametrize("shape", [waves, bumps, rims, strokes])
def test_details_are_as_wide_as_asked(shape):
    """Over a tenth of its width a detail changes little, over its width much."""
    for width in WIDTHS:
        rng = np.random.default_rng(1)
        height = shape(rng, width)
        places = rng.uniform(-1, 1, (4000, 2))
        values = height(places)
        change = {step: np.abs(height(places + [step * width, 0]) - values).mean() for step in (0.02, 1.0)}
        assert change[1.0] > 4 * change[0.02]
        assert 0.02 < np.abs(values).max() <= 8


def test_a_step_rises_from_none_to_one():
    assert soft_step(np.array([-2, -0.5, 0, 0.5, 9.0])).tolist() == [0, 0, 0.5, 1, 1]


def test_faces_of_a_plate_are_parallel():
    rng = np.random.default_rng(2)
    for _ in range(5):
        upper, lower = plate_faces(rng)
        heights = []
        for face in (upper, lower):
            points = face(6000, rng)[0]
            terms = np.stack([points[:, 0] ** 2, points[:, 0] * points[:, 1], points[:, 1] ** 2, np.ones(6000)], 1)
            solution, residual = np.linalg.lstsq(terms, points[:, 2], rcond=None)[:2]
            assert residual < 1e-9
            heights.append(solution)
        assert heights[0][:3] == pytest.approx(heights[1][:3], abs=1e-9)
        assert 0.029 < heights[0][3] - heights[1][3] < 0.201
