"""generate, complete, interpolate and vary as functions: what goes in, what comes out, and the twin that reports progress."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import becalm
from becalm.core.files import InputError
from becalm.core.sampler import Sampler
from becalm.points import Cloud, read, write
from becalm.points.mesh import Mesh
from becalm.shapes.families import sample_family
from becalm.shapes.simulated_scan import simulate
from becalm.systems.lion import Lion
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.pvd import PointDiffusion
from becalm.systems.vdm import VDM
from becalm.tasks import complete, generate, interpolate, shape_files, shapes, vary
from becalm.tasks.shape_files import read_boxed
from becalm.weights.store import load

FAST = Sampler(2)


@pytest.fixture(scope="module")
def model() -> LionSparse:
    torch.manual_seed(0)
    return LionSparse(["ball", "plane"], [16, 8, 16, 2, 2, 4, 16, 1], 0.2).eval()


@pytest.fixture(scope="module")
def ball() -> np.ndarray:
    xyz = np.random.default_rng(0).normal(size=(600, 3))
    return xyz / np.linalg.norm(xyz, axis=1, keepdims=True)


def test_shapes_are_generated_by_class_and_seed(model):
    one, same, other = (becalm.generate(model, 3, "ball", 40, FAST, seed) for seed in (0, 0, 1))
    assert one.points.shape == (3, 40, 3) and np.isfinite(one.points).all() and len(one) == 3
    assert np.array_equal(one.points, same.points) and not np.array_equal(one.points, other.points)
    assert one.facts["label"] == "ball" and one.facts["sampler"] == "dpm" and "3 of 40 points" in repr(one)
    assert "<img" in one._repr_html_() and "ball" in one._repr_html_()


def test_batches_do_not_leave_a_shape_out_and_are_reported(model, monkeypatch):
    monkeypatch.setattr(shapes, "BATCH_SHAPES", 2)
    reports = list(generate.steps(model, 5, points=30, sampler=FAST))
    assert [round(r.done, 2) for r in reports] == [0.4, 0.8, 1.0, 1.0]
    assert [r.result is None for r in reports] == [True, True, True, False]
    whole = reports[-1].result.points
    assert whole.shape == (5, 30, 3) and len(np.unique(whole[:, 0], axis=0)) == 5
    for k, report in enumerate(reports[:3]):
        assert np.allclose(report.state.double().numpy(), whole[2 * k : 2 * k + 2])


@pytest.mark.parametrize(
    "made", [lambda: Lion(["ball"], [8, 8, 16, 2, 1, 1]), lambda: PointDiffusion(["ball"], [8, 16, 2, 1])]
)
def test_every_model_of_shapes_is_a_generator(made):
    torch.manual_seed(0)
    loaded = made().eval()
    assert isinstance(loaded, generate.Generator) and loaded.makes == "shapes"
    result = becalm.generate(loaded, 2, "ball", 20, Sampler(2, loaded.default_sampler.update))
    assert result.points.shape == (2, 20, 3) and np.isfinite(result.points).all()


def test_images_are_generated_by_the_same_function(tmp_path):
    torch.manual_seed(0)
    images = VDM([4, 6, 1], 17)
    assert isinstance(images, generate.Generator) and images.makes == "images"
    reports = list(generate.steps(images, 3, sampler=Sampler(4, "ancestral")))
    assert [r.result is None for r in reports] == [True] * 5 + [False]
    result = reports[-1].result
    assert result.images.shape == (3, 4, 6, 1) and 0 <= result.images.min() <= result.images.max() < 17
    assert "<img" in result._repr_html_() and "3 of 4 × 6 × 1" in repr(result)
    result.save(tmp_path / "new.npy")
    assert np.array_equal(np.load(tmp_path / "new.npy"), result.images[..., 0])
    for more in ({"label": "ball"}, {"sampler": Sampler(4, guidance=1.0)}):
        with pytest.raises(InputError, match="leave it out"):
            becalm.generate(images, 3, **more)


def test_a_completion_has_the_part_and_says_where(model, ball):
    part = ball[ball[:, 0] < 0]
    result = becalm.complete(model, part, 2, points=300, sampler=FAST)
    assert result.points.shape == (2, 300, 3) and result.given.shape == (2, 300) and result.given.any()
    assert result.facts["given"] == 8 and result.facts["of"] == 16
    away = np.linalg.norm(part[:, None] - result.points[1], axis=2).min(1)
    assert np.median(away) < 0.2
    near = np.linalg.norm(result.points[0][result.given[0]][:, None] - part, axis=2).min(1)
    assert near.max() < 0.3
    with pytest.raises(InputError, match="ndarray: reaches 10.*box from −1 to 1"):
        becalm.complete(model, 10 * part, 2)
    with pytest.raises(InputError, match="share 1: must be between 0 and 1"):
        becalm.complete(model, part, share=1)


def test_a_variation_lies_where_the_shape_lay(model, ball):
    result = becalm.vary(model, 7 * ball + [10, 0, 0], 0.0, 2, points=300, sampler=FAST)
    radius = np.linalg.norm(result.points - [10, 0, 0], axis=2)
    assert abs(radius.mean() - 7) < 0.4
    assert "<img" in result._repr_html_()
    with pytest.raises(InputError, match="amount 2: must be from 0 to 1"):
        becalm.vary(model, ball, 2)


def test_a_shape_unlike_what_the_model_knows_is_said(model, ball, monkeypatch):
    said = []
    monkeypatch.setattr(vary, "own_shapes", lambda *_: torch.from_numpy(ball).float()[None])
    result = vary.vary(model, ball, 0.0, 1, points=50, sampler=FAST, warn=said.append)
    assert not said and 0 < result.facts["reconstruction_error"] < 1
    monkeypatch.setattr(vary, "own_shapes", lambda *_: 0.5 * torch.from_numpy(ball).float()[None])
    for worse in (torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])):  # either error says it
        said.clear()
        errors = lambda _model, points, _seed: 1 + worse * (points.abs().amax((1, 2)) > 0.6)[:, None]  # noqa: B023, E731
        monkeypatch.setattr(vary, "reconstruction_errors", errors)
        vary.vary(model, ball, 0.0, 1, points=50, sampler=FAST, warn=said.append)
        assert len(said) == 1 and "ndarray: lies far from what the model knows" in said[0]


def test_a_scene_is_reconstructed_coarser_than_a_chair():
    lion, rng = load("lion_families"), np.random.default_rng(0)
    shapes = simulate(rng, beams=10_000).xyz[:, [0, 2, 1]], sample_family(rng, "chair", 2048)
    boxed = np.stack([read_boxed(shape, 2048, 0)[0] for shape in shapes])
    _, (yard, chair) = vary.reconstruction_errors(lion, torch.from_numpy(boxed), 0).T.tolist()
    assert 1.1 * chair < yard
    own = vary.own_shapes(lion, torch.zeros(1, dtype=torch.long), None, 0)
    known = vary.reconstruction_errors(lion, own, 0)[:, 1].max()
    assert chair <= vary.FAR[1] * known < yard, "a yard is far from what the model makes, a chair is not"


def test_an_interpolation_has_its_ends(model, ball):
    flat = ball * [1, 0.05, 1]
    result = becalm.interpolate(model, ball, Cloud(flat), 4, points=300, sampler=Sampler(20))
    assert result.points.shape == (4, 300, 3)
    tall = np.ptp(result.points[:, :, 1], axis=1)
    assert tall[0] > 1.5 and tall[-1] < 0.6
    for number in (1, 1001):
        with pytest.raises(InputError, match="2 to 1000"):
            becalm.interpolate(model, ball, flat, number, points=1)


def test_paths_clouds_meshes_and_arrays_are_the_same_shape(tmp_path, ball):
    write(Cloud(ball), tmp_path / "ball.ply")
    given = [
        tmp_path / "ball.ply",
        str(tmp_path / "ball.ply"),
        Cloud(ball),
        ball,
        torch.from_numpy(ball),
        SimpleNamespace(points=ball),
    ]
    first = shape_files.read_points(given[0], 100, 3)
    for shape in given[1:]:
        assert np.allclose(shape_files.read_points(shape, 100, 3), first, atol=1e-6)
    square = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    for mesh in (square, SimpleNamespace(vertices=square.vertices, faces=square.faces)):
        points = shape_files.read_points(mesh, 50, 0)
        assert points.shape == (50, 3) and np.ptp(points[:, :2], axis=0).min() > 0.8 and not points[:, 2].any()


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (np.zeros((0, 3)), "ndarray: has the shape"),
        (np.zeros((5, 2)), "points are \\[n, 3\\]"),
        (np.full((5, 3), np.nan), "not finite"),
        (object(), "object: is no array of points"),
        ("missing.ply", "missing.ply"),
    ],
)
def test_what_is_no_shape_is_refused(model, shape, words):
    with pytest.raises((InputError, OSError), match=words):
        becalm.vary(model, shape)


def test_files_of_shapes_are_whole(model, tmp_path):
    result = becalm.generate(model, 2, points=120, sampler=FAST)
    result.save(tmp_path / "new.npz")
    assert np.allclose(np.load(tmp_path / "new.npz")["points"], result.points, atol=1e-6)
    result.save(tmp_path / "folder")
    assert np.allclose(read(tmp_path / "folder" / "0001.ply").xyz, result.points[1], atol=1e-6)
    result.draw(tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 500
    with pytest.raises(InputError, match="not empty"):
        result.save(tmp_path / "folder")


@pytest.mark.parametrize("steps", [generate.steps, complete.steps, vary.steps, interpolate.steps])
def test_unknown_models_classes_devices_and_numbers_are_refused(model, ball, steps):
    shape = {generate.steps: (), interpolate.steps: (ball, ball)}.get(steps, (ball,))
    for changed, words in (
        ({"label": "chair"}, "'chair' is unknown; choose from ball, plane"),
        ({"device": "cuda:99"}, "device"),
        ({"number": 0}, "must be at least 1"),
        ({"points": 10**7}, "ask for fewer"),
    ):
        with pytest.raises(InputError, match=words):
            next(steps(model, *shape, **changed))
    with pytest.raises(InputError, match="jets: is a denoiser of scans .* needed is a generator of shapes"):
        next(steps("jets", *shape))
