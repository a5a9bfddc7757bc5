"""Even spacing: gaps close, surfaces stay, and where there was no noise nothing moves."""

import numpy as np

from becalm.points.metrics import unevenness
from becalm.points.regularize import equalize_spacing


def sphere(n: int = 3000) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(n, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_chance_becomes_even_and_the_surface_stays():
    xyz = sphere()
    result = equalize_spacing(xyz, np.full(len(xyz), 0.1))
    assert unevenness(result) < 0.7 * unevenness(xyz)
    assert np.abs(np.linalg.norm(result, axis=1) - 1).max() < 0.02


def test_without_noise_nothing_moves_and_never_more_than_twice_the_noise():
    xyz = sphere()
    assert np.abs(equalize_spacing(xyz, np.full(len(xyz), 1e-5)) - xyz).max() < 1e-7
    sigma = np.full(len(xyz), 0.02)
    assert np.linalg.norm(equalize_spacing(xyz, sigma) - xyz, axis=1).max() < 0.0401


def test_only_noisy_parts_move():
    xyz = sphere()
    noisy = xyz[:, 2] > 0
    moved = np.linalg.norm(equalize_spacing(xyz, np.where(noisy, 0.1, 0.0)) - xyz, axis=1)
    assert moved[~noisy].max() == 0
    assert np.median(moved[noisy]) > 1e-3


def test_turning_scaling_and_reordering_do_the_same_to_the_result():
    xyz = sphere(800)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    order = np.random.default_rng(2).permutation(len(xyz))
    level = np.full(len(xyz), 0.1)
    here, there = equalize_spacing(xyz, level), equalize_spacing(5 * xyz[order] @ turn, 5 * level)
    assert np.median(np.abs(5 * here[order] @ turn - there)) < 1e-4
