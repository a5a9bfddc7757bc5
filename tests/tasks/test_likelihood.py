"""becalm.likelihood, as its caller uses it."""

import csv
import math

import numpy as np
import pytest
import torch

import becalm
from becalm.core.files import InputError
from becalm.systems.vdm import bound, images_to_variables
from becalm.tasks.likelihood import FlowSettings, likelihood, steps
from tests.tasks.image_models import random_images, saved, small_vdm


@pytest.fixture
def file(tmp_path):
    return saved(tmp_path, small_vdm())


def test_arrays_tensors_and_paths_give_the_same(file, tmp_path):
    images = random_images(30)
    np.save(tmp_path / "images.npy", images)
    forms = [images, images[..., None], torch.from_numpy(images), images.astype(float), tmp_path / "images.npy"]
    found = [becalm.likelihood(file, form, draws=2) for form in forms]
    found += [becalm.likelihood(small_vdm(), images, draws=2), becalm.likelihood(str(file), images, draws=2)]
    assert {one.bits_per_dim for one in found} == {found[0].bits_per_dim}
    assert found[-1].images.names[:2] == ("0", "1")


def test_the_numbers_are_those_of_the_bound(file):
    images, model = random_images(40), small_vdm()
    v = images_to_variables(model, torch.from_numpy(images)[..., None])
    with torch.no_grad():
        direct = bound(model, v, 9, 3, torch.Generator().manual_seed(5))
    found = likelihood(file, images, steps=9, draws=3, seed=5)
    scale = 16 * math.log(2)
    np.testing.assert_allclose(found.per_image, (direct.total / scale).numpy())
    assert found.bits_per_dim == pytest.approx(found.per_image.mean())
    assert found.standard_error == pytest.approx(found.per_image.std(ddof=1) / 40**0.5)
    for name in ("prior", "reconstruction", "diffusion"):
        np.testing.assert_allclose(found.per_image_terms[name], (getattr(direct, name) / scale).numpy())
        assert found.terms[name].bits == pytest.approx(found.per_image_terms[name].mean())
    assert found.terms["total"].bits == found.bits_per_dim
    assert (found.dimensions, found.steps, found.levels) == (16, 9, 17)


def test_batches_change_nothing_but_the_draws(file):
    """Every image is measured once, in its place."""
    images = random_images(50)
    whole, parts = (likelihood(file, images, draws=30, batch=batch) for batch in (50, 7))
    assert len(parts.per_image) == 50
    slack = 6 * math.hypot(whole.standard_error, parts.standard_error)
    assert abs(whole.bits_per_dim - parts.bits_per_dim) < slack


def test_progress_rises_to_the_result(file):
    reports = list(steps(file, random_images(20), batch=6, flow=FlowSettings(4, probes=2)))
    shares = [report.done for report in reports]
    assert len(reports) == 9
    assert shares == sorted(shares) and shares[0] > 0 and shares[-1] == 1
    assert [report.result is None for report in reports] == [True] * 8 + [False]


def test_a_consumer_keeps_its_gradients(file):
    for _ in steps(file, random_images(4), batch=2):
        assert torch.is_grad_enabled()


def test_the_flow_agrees_with_the_entropy(file):
    found = likelihood(file, random_images(12), draws=4, flow=FlowSettings(30))
    flow = found.flow
    assert flow.settings.probes is None and flow.trace_error == 0
    slack = 4 * flow.standard_error + flow.end_error + flow.solver_error
    assert abs(flow.bits_per_dim - math.log2(17)) < slack + 0.05
    rough = likelihood(file, random_images(12), flow=FlowSettings(4, probes=1)).flow
    assert math.isnan(rough.trace_error)


def test_it_prints_and_draws(file, tmp_path):
    found = likelihood(file, random_images(12), flow=FlowSettings(3, probes=1))
    text = repr(found)
    assert f"bits a dimension  {found.bits_per_dim:.4f} ± {found.standard_error:.4f}" in text
    for word in (
        "prior",
        "reconstruction",
        "diffusion",
        "12 of 16 dimensions, infinitely many",
        "not known from one probe",
    ):
        assert word in text
    html = found._repr_html_()
    assert "<img src='data:image/png;base64," in html and f"{found.bits_per_dim:.4f}" in html
    found.save(tmp_path / "each.csv")
    with (tmp_path / "each.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [row["image"] for row in rows] == [str(i) for i in range(12)]
    np.testing.assert_allclose([float(row["bits_per_dim"]) for row in rows], found.per_image)
    found.draw(tmp_path / "all.png", worst=3)
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    assert found.worst(3) == np.argsort(-found.per_image)[:3].tolist()
    single = likelihood(file, random_images(1))
    assert math.isnan(single.standard_error) and "±" not in repr(single)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"images": np.zeros((2, 5, 5), np.uint8)},
            r"images: has the shape \[2, 5, 5\]; the model takes grey images 4 × 4",
        ),
        ({"images": np.full((2, 4, 4), 17)}, "images: image 0: values run from 17 to 17"),
        ({"images": np.random.default_rng(0).random((2, 4, 4))}, "images: holds fractions"),
        ({"images": "nowhere.npy"}, "nowhere.npy: no such file or folder"),
        ({"images": np.array([["a"]])}, "images: holds <U1"),
        ({"model": "jets"}, "needed is a diffusion model of images"),
        ({"model": "nothing"}, "nothing: no such file, and no packaged model"),
        ({"model": torch.nn.Linear(1, 1)}, "Linear: is a Linear, of no use here: needed is a diffusion model"),
        ({"steps": 0}, "steps: 0; must be at least 1"),
        ({"draws": 0}, "draws: 0; must be at least 1"),
        ({"batch": -1}, "batch: -1; must be at least 1"),
        ({"flow": FlowSettings(0)}, "flow_steps: 0; must be at least 1"),
        ({"device": "cuda:77"}, "cuda:77"),
    ],
)
def test_wrong_input_gives_one_line(file, change, words):
    with pytest.raises(InputError, match=words) as error:
        becalm.likelihood(**{"model": file, "images": random_images(3)} | change)
    assert "\n" not in str(error.value)


def test_damaged_weights_are_refused(tmp_path):
    model = small_vdm()
    torch.nn.init.constant_(model.logits.bias, torch.nan)
    with pytest.raises(InputError, match="VDM: has no finite bound for image 0"):
        likelihood(model, random_images(2))


def test_the_packaged_model_measures_digits(shared):
    with np.load(shared("data/mnist.npz")) as fields:
        images = fields["x_test"][:16]
    found = becalm.likelihood("mnist", images)
    assert 0.8 < found.bits_per_dim < 2
    noise = becalm.likelihood("mnist", np.random.default_rng(0).integers(0, 256, (2, 28, 28)))
    assert noise.bits_per_dim > 2 * found.bits_per_dim
