"""The recipes of VDM and DDPM: their data, exact resume, and DDPM's bound against closed forms."""

import math
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from becalm.core import kinds, likelihood
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError
from becalm.core.schedule import Betas
from becalm.recipes import ddpm, vdm
from becalm.systems.vdm import VDM
from becalm.training.loop import Plan
from becalm.weights.store import load, save

TINY = {
    "widths": (8, 16),
    "batch": 8,
    "plan": Plan(steps=4, learning_rate=1e-3, warmup=1, log_every=2, save_every=2, bfloat16=False),
}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(vdm, "EVAL_NUMBERS", 0)


def small(tmp_path, **how):
    """digits8 with made-up digits in a file."""
    file = tmp_path / "digits.npz"
    rng = np.random.default_rng(0)
    np.savez(file, x_train=rng.integers(0, 17, (40, 8, 8), np.uint8), x_test=rng.integers(0, 17, (6, 8, 8), np.uint8))
    return replace(vdm.DIGITS8, digits=file, run=tmp_path / "run", **(TINY | how))


# Data


def test_the_swirl_is_the_law_whose_entropy_is_known():
    points = vdm.make_swirl().train.flatten(1).numpy()
    _, counts = np.unique(points, axis=0, return_counts=True)
    assert len(counts) == 774
    assert -(counts / 1024 * np.log2(counts / 1024)).sum() / 2 == pytest.approx(4.7353, abs=1e-4)


def test_small_digits_are_split_the_same_way_from_package_and_file(tmp_path):
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    data = vdm.load_images(vdm.DIGITS8)
    assert data.train.shape == (1500, 8, 8, 1) and data.test.shape == (297, 8, 8, 1)
    assert int(data.train.max()) == 16
    np.savez(tmp_path / "digits8x8.npz", images=load_digits().images)
    again = vdm.load_images(replace(vdm.DIGITS8, digits=tmp_path / "digits8x8.npz"))
    assert torch.equal(again.train, data.train) and torch.equal(again.test, data.test)


def test_mnist_keeps_its_bytes(shared, tmp_path):
    with np.load(shared("data/mnist.npz")) as fields:
        few = {name: fields[name][:100] for name in fields}
    np.savez(tmp_path / "mnist.npz", **few)
    data = vdm.load_images(replace(vdm.MNIST, digits=tmp_path / "mnist.npz"))
    assert np.array_equal(data.test[..., 0].numpy(), few["x_test"])
    assert data.train.shape == (100, 28, 28, 1) and data.train.dtype == torch.uint8


def test_cifar_s_batches_are_read_and_other_pickles_refused(tmp_path):
    rng = np.random.default_rng(0)
    files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    for name in files:
        pixels = rng.integers(0, 256, (3, 3072), np.uint8)
        (tmp_path / name).write_bytes(pickle.dumps({b"data": pixels, b"labels": [0, 1, 2]}, protocol=2))
    data = vdm.load_images(replace(vdm.CIFAR10, digits=tmp_path))
    assert data.train.shape == (15, 32, 32, 3) and data.test.shape == (3, 32, 32, 3)
    assert int(data.test[1, 2, 5, 1]) == pixels[1, 1024 + 2 * 32 + 5]
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": print}))
    with pytest.raises(InputError, match="test_batch: no batch of CIFAR-10.*print"):
        vdm.load_images(replace(vdm.CIFAR10, digits=tmp_path))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"x_train": np.zeros((2, 8, 8), np.uint8)}, "no field 'x_test'"),
        ({"x_train": np.full((2, 8, 8), 0.5), "x_test": np.zeros((2, 8, 8))}, "x_train: is float64"),
        ({"x_train": np.full((2, 8, 8), 17), "x_test": np.zeros((2, 8, 8))}, "train: values up to 17, not 0 to 16"),
    ],
)
def test_wrong_files_are_named(fields, message, tmp_path):
    np.savez(tmp_path / "bad.npz", **fields)
    with pytest.raises(InputError, match=f"bad.npz.*{message}"):
        vdm.load_images(replace(vdm.DIGITS8, digits=tmp_path / "bad.npz"))


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"none.npz"):
        vdm.load_images(replace(vdm.CIFAR10, digits=tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(InputError, match=r"text.npz: is no whole .npz"):
        vdm.load_images(replace(vdm.SWIRL, digits=tmp_path / "text.npz"))
    with pytest.raises(InputError, match="cifar10: no data"):
        vdm.load_images(vdm.CIFAR10)


# Training


def test_the_level_aware_head_begins_at_the_histogram(tmp_path):
    recipe = small(tmp_path)
    data = vdm.load_images(recipe)
    model = vdm.build_model(recipe, data.train)
    share = (torch.bincount(data.train.flatten().int(), minlength=17) + 1) / (data.train.numel() + 17)
    torch.testing.assert_close(model.logits.bias.softmax(0), share)


@pytest.mark.parametrize("head", ["levels", "eps", "v", "x"])
def test_the_recipe_trains_every_head(head, tmp_path):
    recipe = small(tmp_path, head=head)
    data = vdm.load_images(recipe)
    model = vdm.build_model(recipe, data.train).train()
    assert model.head == head
    vdm.loss(recipe, model, vdm.sample_batch(recipe, model, data.train, 0))["loss"].backward()
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.grad is not None)


@pytest.mark.parametrize(
    "how", [{"schedule": "learned"}, {"schedule": "least variance", "dropout": 0.3}, {"head": "eps", "timesteps": 5}]
)
def test_an_interrupted_run_ends_where_the_whole_one_does(how, tmp_path):
    whole = small(tmp_path, **how)
    last = list(vdm.run(whole))[-1]
    assert last["test"]["total"] > 0
    halves = replace(whole, run=tmp_path / "halves")
    data = vdm.load_images(halves)
    model = vdm.build_model(halves, data.train).train()
    make = partial(vdm.sample_batch, halves, model, data.train)
    for _ in vdm.train(
        model, partial(vdm.loss, halves), lambda start: map(make, range(start, 2)), halves.plan, halves.run
    ):
        pass
    list(vdm.run(halves))
    one, other = (load(run / "digits8.safetensors", VDM).state_dict() for run in (whole.run, halves.run))
    for name in one:
        assert torch.equal(other[name], one[name]), name


def test_a_run_from_weights_keeps_their_network_and_fits_another_schedule(tmp_path):
    first = small(tmp_path)
    list(vdm.run(first))
    images, start = vdm.load_images(first).train, first.run / "digits8.safetensors"
    old = load(start, VDM)
    for schedule in ("linear", "few steps"):
        model = vdm.build_model(replace(first, start=start, schedule=schedule, widths=(99,)), images)
        assert model.config == {**old.config, "schedule": schedule}
        for name, weight in model.network.state_dict().items():
            assert torch.equal(weight, old.network.state_dict()[name]), name
    old = vdm.build_model(replace(first, schedule="least variance"), images)
    with torch.no_grad():
        old.schedule.low.sub_(1.5)
    save(old, start, {})
    model = vdm.build_model(replace(first, start=start, schedule="few steps"), images)
    assert float(model.schedule.low) == float(old.schedule.low)
    assert float(model.schedule(torch.ones(())).gamma) == pytest.approx(float(old.schedule(torch.ones(())).gamma))
    with pytest.raises(InputError, match=r"digits8.safetensors: made for images of \[8, 8, 1\] and 17 levels"):
        vdm.build_model(replace(first, start=start, levels=99), images)


def test_ddpm_runs_and_its_model_is_read_again(tmp_path):
    file = small(tmp_path).digits
    recipe = replace(ddpm.DIGITS8, digits=file, run=tmp_path / "ddpm", **TINY)
    last = list(ddpm.run(recipe))[-1]["test"]
    assert set(last) == {"small", "large"}
    model = load(tmp_path / "ddpm" / "ddpm_digits8.safetensors", VDM)
    assert isinstance(model.schedule, Betas)


# DDPM's bound


def chained(eps, variance, x, seed=0):
    return ddpm.chain_bound(Denoiser(lambda z, t, given: eps(z), Betas(), kinds.eps), x, 17, variance, 4, gen(seed))


def test_with_the_small_variance_the_chain_is_vdm_s_bound():
    x = likelihood.encode_levels(torch.randint(0, 17, (300, 4, 1), generator=gen()), 17)
    found = chained(lambda z: 0.9 * z, "small", x).estimates()["diffusion"]
    denoiser = Denoiser(lambda z, t, given: 0.9 * z, Betas(), kinds.eps)
    other = likelihood.variational_bound(denoiser, x, 17, 999, 4, 1 / 1000, generator=gen(1)).estimates()["diffusion"]
    assert found.nats == pytest.approx(other.nats, abs=4 * math.hypot(found.nats_error, other.nats_error))


@pytest.mark.parametrize("variance", ["small", "large"])
def test_each_term_is_the_divergence_torch_computes(variance):
    x, eps = (torch.randn(5, 3, 2, generator=gen(i)) for i in (0, 1))
    t = torch.tensor([2, 10, 300, 999, 1000.0], dtype=torch.float64)[:, None, None] / 1000
    found = ddpm.transition_kl(Denoiser(lambda z, t, given: 0.8 * z, Betas(), kinds.eps), x, t, eps, variance)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    bar = torch.cumprod(1 - beta, 0)
    i = (t * 1000).round().long() - 1
    b, now, before = beta[i], bar[i], bar[i - 1]
    z = now.sqrt() * x + (1 - now).sqrt() * eps
    true = before.sqrt() * b / (1 - now) * x + (1 - b).sqrt() * (1 - before) / (1 - now) * z
    mean = (z - b / (1 - now).sqrt() * 0.8 * z) / (1 - b).sqrt()
    tilde = b * (1 - before) / (1 - now)
    wide = {"small": tilde, "large": b}[variance]
    q, p = torch.distributions.Normal(true, tilde.sqrt()), torch.distributions.Normal(mean, wide.sqrt())
    expected = torch.distributions.kl_divergence(q, p).sum((1, 2))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_decoder_s_levels_add_up_to_one_and_far_tails_stay_finite():
    values = likelihood.encode_levels(torch.arange(17), 17, torch.float64)[:, None, None]
    for mean, deviation in ((0.03, 0.01), (-1.4, 0.2), (0.9, 0.05)):
        centre, wide = torch.full((17, 1, 1), mean, dtype=torch.float64), torch.tensor(deviation, dtype=torch.float64)
        logs = ddpm.discretized_log_prob(values, centre, wide, 17)
        assert torch.isfinite(logs).all()
        assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-12)
