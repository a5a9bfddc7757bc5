import numpy as np
import pytest

from becalm.points.metrics import unevenness
from becalm.points.neighbours import knn
from becalm.shapes import charts, implicit, random_surfaces, solids


@pytest.mark.parametrize("kind", random_surfaces.FAMILIES)
def test_exact_even_normalised(kind):
    for seed in range(3):
        points, normals, name = random_surfaces.random_surface(np.random.default_rng(seed), 1500, kind)
        assert name == kind
        assert points.shape == normals.shape == (1500, 3)
        assert np.isfinite(points).all()
        assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(1500), abs=1e-6)
        assert np.linalg.norm(points, axis=1).max() == pytest.approx(1)
        assert points.min(0) == pytest.approx(-points.max(0))
        assert unevenness(points) < 0.16


@pytest.mark.parametrize("kind", ["bumpy_sphere", "ring", "revolution", "height_field", "blobs", "labyrinth"])
def test_normals_are_those_of_the_surface(kind):
    points, normals = random_surfaces.FAMILIES[kind](np.random.default_rng(2))(20_000, np.random.default_rng(0))
    near = points[knn(points, 6)[1]] - points[:, None]
    slope = np.abs(np.einsum("nkc,nc->nk", near, normals)) / np.maximum(np.linalg.norm(near, axis=2), 1e-9)
    assert np.median(slope[:, 1:]) < 0.05


def test_the_number_decides_everything():
    one, same, other = (random_surfaces.random_surface(np.random.default_rng(s), 500) for s in (1, 1, 2))
    assert one.kind == same.kind
    assert np.array_equal(one.points, same.points)
    assert not np.array_equal(one.points, other.points)


def test_rotations_are_proper():
    turn = random_surfaces.rotation(np.random.default_rng(0))
    assert turn @ turn.T == pytest.approx(np.eye(3))
    assert np.linalg.det(turn) == pytest.approx(1)


def test_chart_is_uniform_by_area():
    def chart(u, v):  # a sphere whose poles would be crowded if u and v were uniform
        a, b = 2 * np.pi * u, np.pi * v
        return np.stack([np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), np.cos(b)], axis=1)

    points, normals = charts.chart_sampler(chart)(40_000, np.random.default_rng(0))
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(40_000))
    assert np.abs(np.einsum("nc,nc->n", points, normals)) == pytest.approx(np.ones(40_000), abs=1e-4)
    assert np.quantile(points[:, 2], [0.1, 0.25, 0.5, 0.9]) == pytest.approx([-0.8, -0.5, 0, 0.8], abs=0.02)


def test_level_set_is_uniform_by_area():
    field = implicit.metaballs(np.zeros((1, 3)), np.ones(1))  # its zero set is the unit sphere
    points, normals = implicit.level_set_sampler(field, -1.2 * np.ones(3), 1.2 * np.ones(3))(
        30_000, np.random.default_rng(0)
    )
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(30_000), abs=1e-8)
    assert normals == pytest.approx(points, abs=1e-7)
    for axis in range(3):
        assert np.quantile(points[:, axis], [0.1, 0.25, 0.5, 0.9]) == pytest.approx([-0.8, -0.5, 0, 0.8], abs=0.02)


@pytest.mark.parametrize(
    "field",
    [
        implicit.metaballs(np.array([[0, 0, 0], [0.5, 0.2, 0]]), np.array([0.5, 0.3])),
        implicit.gyroid(3.0, np.array([0.1, 0.2, 0.3]), 0.2),
    ],
)
def test_gradients(field):
    at, h = np.random.default_rng(0).uniform(-0.5, 0.5, (50, 3)), 1e-6
    steps = [(field(at + h * e)[0] - field(at - h * e)[0]) / (2 * h) for e in np.eye(3)]
    assert np.stack(steps, axis=1) == pytest.approx(field(at)[1], abs=1e-7)


STAIR = np.array([[0, 0], [2, 0], [2, 2], [1, 2], [1, 1], [0, 1]]) - 0.9
BODIES = {
    "ball": (solids.ball(0.7), 4 / 3 * np.pi * 0.7**3),
    "cylinder": (solids.frustum(0.5, 0.5, 1.4), np.pi * 0.25 * 1.4),
    "cone": (solids.frustum(0.8, 0.0, 1.2), np.pi * 0.64 * 1.2 / 3),
    "frustum": (solids.frustum(0.3, 0.8, 1.0), np.pi * (0.09 + 0.24 + 0.64) / 3),
    "box": (solids.cuboid(np.array([1.0, 0.5, 1.5])), 0.75),
    "prism": (solids.prism(STAIR, 1.1), 3 * 1.1),
}


@pytest.mark.parametrize("name", BODIES)
def test_solids_by_the_divergence_theorem(name):
    """∮ x·n dA = 3 V and ∮ n dA = 0 hold only if points, normals and areas are all right."""
    body, volume = BODIES[name]
    points, normals = body.draw(60_000, np.random.default_rng(0))
    assert body.area * np.einsum("nc,nc->n", points, normals).mean() == pytest.approx(3 * volume, rel=0.02)
    assert np.abs(normals.mean(0)).max() < 0.02
    assert body.inside(points - 1e-6 * normals).mean() > 0.999
    assert not body.inside(points + 1e-6 * normals).any()


@pytest.mark.parametrize("name", BODIES)
def test_inside_has_the_volume(name):
    body, volume = BODIES[name]
    probe = np.random.default_rng(0).uniform(-1.5, 1.5, (200_000, 3))
    assert 27 * body.inside(probe).mean() == pytest.approx(volume, rel=0.05)


def test_union_and_difference():
    """A box less a ball, joined by another: every point is on one of them, outside of the rest, inside of no hole."""
    box, ball = solids.cuboid(np.ones(3)), solids.ball(0.4)
    hole = solids.pose(ball, np.eye(3), np.array([0.5, 0.5, 0.5]))
    boss = solids.pose(ball, np.eye(3), np.array([-0.5, 0.1, 0.0]))
    points, normals = solids.surface_sampler([box, boss], [hole])(20_000, np.random.default_rng(0))

    def solid(p):
        return (box.inside(p) | boss.inside(p)) & ~hole.inside(p)

    assert solid(points - 1e-7 * normals).mean() > 0.999
    assert not solid(points + 1e-7 * normals).any()
    carved = np.abs(np.linalg.norm(points - 0.5, axis=1) - 0.4) < 1e-9
    assert carved.mean() == pytest.approx(0.2513 / (6 - 3 * 0.1257 + 0.2513 + 1.0053 - 0.5027), rel=0.1)


def test_cuts_keep_the_border_open():
    half = charts.restricted_sampler(solids.ball(1.0).draw, lambda p: p[:, 2] > 0.5)
    points = half(3000, np.random.default_rng(0)).points
    assert len(points) == 3000
    assert points[:, 2].min() > 0.5
    with pytest.raises(ValueError, match="0 of the 10"):
        charts.restricted_sampler(solids.ball(1.0).draw, lambda p: p[:, 2] > 2)(10, np.random.default_rng(0))


def test_holes_that_swallow_all_are_drawn_again(monkeypatch):
    small, large = solids.ball(0.2), solids.ball(0.9)
    assert solids.leaves_points(solids.surface_sampler([large], [small]))
    assert not solids.leaves_points(solids.surface_sampler([small], [large]))
    swallowed = solids.surface_sampler([small], [large])
    whole = solids.surface_sampler([large], [])
    made = iter([swallowed, swallowed, whole])
    monkeypatch.setattr(random_surfaces, "surface_sampler", lambda *parts: next(made))
    assert random_surfaces.assembly(np.random.default_rng(0)) is whole
