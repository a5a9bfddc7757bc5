"""LION on small shapes: what a fresh one already does, its losses, and what sampling may touch."""

import pytest
import torch

from becalm.core.sampler import Sampler
from becalm.core.schedule import Betas, Rectified
from becalm.nets.mixture import MixtureHead, PatchDensity
from becalm.systems import lion_sparse, lion_sparse_autoencoder, lion_sparse_edit
from becalm.systems.lion import Latent
from becalm.systems.lion_sparse import LionSparse, generate, loss_weight, training_levels, velocity_preconditioning
from becalm.systems.lion_sparse_autoencoder import ROWS, decode, whiten
from becalm.weights.store import load, save

SIZES = [16, 8, 32, 4, 2, 4, 32, 2]
LABEL = torch.tensor([1, 0])


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model(seed: int = 0) -> LionSparse:
    torch.manual_seed(seed)
    return LionSparse(["plane", "ball"], SIZES, 0.15).eval()


def randomized(seed: int = 0) -> LionSparse:
    """A model with random weights, zeros too."""
    made = model(seed)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return made


def shapes(points: int = 256, seed: int = 0) -> torch.Tensor:
    """A square in a plane and a sphere."""
    plane = torch.rand(points, 3, generator=gen(seed)) * 2 - 1
    plane[:, 1] = 0
    ball = torch.randn(points, 3, generator=gen(seed + 1))
    return torch.stack([plane, ball / ball.norm(dim=1, keepdim=True)])


@pytest.mark.parametrize("seed", range(4))
def test_a_fresh_model_already_gives_the_shape_back(seed):
    made, points = model(seed), shapes()
    with torch.no_grad():
        _, latent = made.autoencoder.encode(points, gen(seed))
    found = decode(made.autoencoder, latent, 256, gen(seed))
    assert found.shape == (2, 256, 3)
    assert found[0, :, 1].abs().mean() < 0.03
    assert (found[1].norm(dim=1) - 1).abs().mean() < 0.1
    floor, away = (torch.cdist(points, x).amin(2).mean() for x in (shapes(seed=7), found))
    assert away < 1.6 * floor


def test_any_number_of_points_is_decoded_and_the_seed_decides():
    made, latent = randomized(), Latent(torch.randn(1, 66, generator=gen()), torch.randn(1, 16, 11, generator=gen()))
    assert decode(made.autoencoder, latent, 5, gen()).shape == (1, 5, 3)
    one, same, other = (decode(made.autoencoder, latent, 40, gen(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_shares_of_points_are_kept():
    made, latent = model(), Latent(torch.zeros(1, 66), torch.zeros(1, 2, 11))
    latent.h[0, :, 0] = torch.tensor([-5.0, 5.0])
    with torch.no_grad():
        made.autoencoder.decoder.frame_head.weight[0, :] = torch.linspace(-3, 3, 32)
    share = made.autoencoder.decoder(*latent).log_share.exp()[0, 1]
    found = decode(made.autoencoder, latent, 1000, gen())
    assert abs(share - 0.5) > 0.1
    assert abs(float((found[0, :, 0] > 0).float().mean() - share)) < 0.01


def test_whitening_is_by_the_matrix_exponential():
    torch.manual_seed(0)
    form = torch.randn(1, 2, 3, 3)
    guide = PatchDensity(None, torch.zeros(1, 2), torch.randn(1, 2, 3), form + form.mT)  # type: ignore[arg-type]
    offset = torch.randn(1, 2, 4, 3)
    expected = torch.matrix_exp(guide.log_whitening[0, 1]) @ (offset[0, 1, 2] - guide.offset[0, 1])
    torch.testing.assert_close(whiten(offset, guide)[0, 1, 2], expected)


def test_the_density_about_a_latent_point_is_one_in_all():
    torch.manual_seed(0)
    form, row = 0.3 * torch.randn(1, 1, 3, 3), torch.randn(1, 1, 4)
    parts = MixtureHead(8, 4, 3, 0.8, 0.6)
    torch.nn.init.normal_(parts.mlp[2].weight, std=0.3)
    guide = PatchDensity(parts(row), torch.zeros(1, 1), torch.randn(1, 1, 3), form + form.mT)
    axis = torch.arange(-20, 20, 0.4)
    grid = torch.cartesian_prod(axis, axis, axis)
    with torch.no_grad():
        total = sum(
            lion_sparse_autoencoder.log_density(part[None, None], guide).exp().sum() for part in grid.split(100_000)
        )
    assert float(total) * 0.4**3 == pytest.approx(1, abs=0.01)


def test_the_preconditioning_is_the_best_linear_estimate():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
    x, eps = torch.randn(1, 200_000, generator=gen()), torch.randn(1, 200_000, generator=gen(1))
    z, u = (1 - t) * x + t * eps, eps - x
    factor, rest = velocity_preconditioning(t)
    torch.testing.assert_close(factor, (z * u).mean(1, keepdim=True) / (z * z).mean(1, keepdim=True), rtol=0, atol=0.02)
    torch.testing.assert_close(rest[:, 0], (u - factor * z).square().mean(1).sqrt(), rtol=0.02, atol=0)


@pytest.mark.parametrize("anchors", [16, 5])
def test_every_weight_of_the_autoencoder_learns(anchors):
    made = randomized().autoencoder
    terms = lion_sparse_autoencoder.losses(made, shapes(), shapes(seed=5), 0.01, anchors, gen())
    terms["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_every_weight_of_the_prior_learns_and_known_variables_cost_nothing(monkeypatch):
    made = randomized().prior
    latent = Latent(torch.randn(8, 66, generator=gen()), torch.randn(8, 16, 11, generator=gen(1)))
    lion_sparse.losses(made, latent, torch.tensor([1, 2] * 4), gen())["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all() and parameter.grad.any(), name
    monkeypatch.setattr(
        lion_sparse, "training_levels", lambda positions, generator: torch.zeros(8, ROWS + 16, 1).double()
    )
    assert lion_sparse.losses(made, latent, torch.ones(8, dtype=torch.long), gen())["points"] == 0


def test_levels_are_of_the_kinds_that_sampling_visits():
    t = training_levels(torch.randn(400, 16, 3, generator=gen()), gen(1))
    whole, points = t[:, :ROWS, 0], t[:, ROWS:, 0]
    assert ((t >= 0) & (t <= 1)).all()
    assert (whole == whole[:, :1]).all()
    same = (points == points[:, :1]).all(1)
    assert same[:200].all()
    assert 0.05 < (whole[:200, 0] == 1).float().mean() < 0.16
    assert (whole[:200, 0][whole[:200, 0] != 1] == 0).all()
    part_known = (points[200:] == 0).any(1) & (points[200:] > 0).any(1)
    assert 0.3 < part_known.float().mean() < 0.6
    assert 0.3 < (whole[200:, 0] == 0).float().mean() < 0.7


def test_weights_turn_errors_of_velocity_into_those_of_noise():
    """`bound` is the continuous limit of DDPM's weight, which for ρ² = β and 1000 steps has the values of a known table."""
    betas, table = Betas(), {2: 0.273, 10: 0.0737, 100: 0.0101, 250: 0.0053, 500: 0.0055, 1000: 0.0102}
    for i, expected in table.items():
        now, before = (betas(torch.tensor(k / 1000, dtype=torch.float64)) for k in (i, i - 1))
        beta = 1 - (now.alpha / before.alpha) ** 2
        paper = beta**2 / (2 * beta * (1 - beta) * now.sigma**2)
        assert float(paper) == pytest.approx(expected, rel=0.02)
        slope = betas.slope(torch.tensor((i - 0.5) / 1000, dtype=torch.float64)) / 1000
        if i >= 10:
            assert float(slope / 2) == pytest.approx(float(paper), rel=0.1)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    error = (1 - t).square()
    torch.testing.assert_close(loss_weight(t, "bound"), Rectified().slope(t) / 2 * error)
    torch.testing.assert_close(loss_weight(t, "simple"), error)
    assert (loss_weight(t, "flow") == 1).all()
    torch.testing.assert_close(loss_weight(t, "min_snr"), error * torch.tensor([5 / 16, 1.0, 1.0]).double())
    assert all(
        torch.isfinite(loss_weight(torch.tensor([0.0, 1.0]), name)).all()
        for name in ("flow", "simple", "bound", "min_snr")
    )


def test_variables_and_latents_are_the_same_thing():
    prior = model().prior
    latent = Latent(3 + torch.randn(50, 66, generator=gen()), 2 * torch.randn(50, 16, 11, generator=gen(1)))
    prior.fit_normalization(latent)
    x = prior.pack(latent)
    assert abs(float(x.mean())) < 1e-4 and float(x.std()) == pytest.approx(1, abs=0.01)
    for one, other in zip(prior.unpack(x), latent, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", [Sampler(3), Sampler(3, "ddim"), Sampler(3, "ancestral"), Sampler(3, guidance=1.0)])
def test_the_seed_decides_what_is_generated(sampler):
    made = randomized().prior
    one, same, other = (generate(made, LABEL, 16, sampler, gen(seed)) for seed in (0, 0, 1))
    assert one.z.shape == (2, 66) and one.h.shape == (2, 16, 11)
    assert torch.isfinite(one.h).all()
    assert torch.equal(one.h, same.h)
    assert not torch.allclose(one.h, other.h)


def test_guidance_makes_more_of_the_class():
    made, z = randomized().prior, torch.randn(1, 1, 66, generator=gen())
    t, label = torch.full((1, 1, 1), 0.5).double(), torch.tensor([1])
    with torch.no_grad():
        free, plain, guided = (
            lion_sparse.guided_denoiser(made.global_denoiser, which, w)(z, t).x
            for which, w in ((0 * label, 0.0), (label, 0.0), (label, 2.0))
        )
    torch.testing.assert_close(guided - plain, 2 * (plain - free), rtol=1e-3, atol=1e-5)


def test_given_latent_points_come_out_untouched():
    made = randomized().prior
    made.fit_normalization(Latent(torch.randn(9, 66, generator=gen()), 3 + torch.randn(9, 16, 11, generator=gen(1))))
    given = torch.randn(2, 6, 11, generator=gen(2))
    whole = lion_sparse_edit.complete(made, given, 10, LABEL, Sampler(3), gen(3))
    assert torch.equal(whole.h[:, :6], given)
    assert whole.h.shape == (2, 16, 11)
    other = lion_sparse_edit.complete(made, given, 10, LABEL, Sampler(3), gen(4))
    assert not torch.isclose(whole.h[:, 6:], other.h[:, 6:]).all(-1).any()
    assert not torch.allclose(whole.z, other.z)


def test_nothing_diffused_gives_the_reconstruction_and_all_of_it_something_else():
    made, points = randomized(), shapes()
    with torch.no_grad():
        _, plain = made.autoencoder.encode(points, gen(3))
    kept = lion_sparse_edit.vary(made, points, 0.0, LABEL, Sampler(3), gen(3))
    torch.testing.assert_close(kept.z, plain.z, rtol=0, atol=0.02)
    torch.testing.assert_close(kept.h, plain.h, rtol=0, atol=0.05)
    for amount in (0.3, 1.0):
        varied = lion_sparse_edit.vary(made, points, amount, LABEL, Sampler(3), gen(3))
        assert (varied.z - plain.z).abs().mean() > 0.1 * amount
        assert (varied.h - plain.h).abs().mean() > 0.1 * amount


def test_noise_and_back_is_the_same_latent():
    made = randomized().prior
    x, t = torch.randn(2, ROWS + 16, 11, generator=gen()), torch.ones(2, ROWS + 16, 1).double()
    t[:, :ROWS] = 0
    denoiser = lion_sparse.guided_denoiser(made.point_denoiser, LABEL, 0.0)
    top = lion_sparse_edit.encode_noise(denoiser, x, t, 40)
    assert torch.equal(top[:, :ROWS], x[:, :ROWS])
    back = lion_sparse.run_sampler(denoiser, top, t, Sampler(40), None)
    torch.testing.assert_close(back, x, rtol=0, atol=0.05)


def test_an_interpolation_begins_and_ends_with_its_ends():
    made, points = randomized(), shapes()
    with torch.no_grad():
        _, (z, h) = made.autoencoder.encode(points, gen())
    made.prior.fit_normalization(Latent(z.repeat(3, 1) + torch.randn(6, 66, generator=gen()), h))
    one, other = Latent(z[:1], h[:1]), Latent(z[1:], h[1:])
    path = lion_sparse_edit.interpolate(made, one, other, 5, LABEL, Sampler(30), gen())
    assert path.h.shape == (5, 16, 11)
    torch.testing.assert_close(path.z[0], one.z[0], rtol=0, atol=0.15)
    torch.testing.assert_close(path.z[-1], other.z[0], rtol=0, atol=0.15)
    assert (path.h[0, :, :3] - one.h[0, :, :3]).abs().mean() < 0.1
    order = lion_sparse_edit.match_points(one.h[0, :, :3], other.h[0, :, :3])
    assert sorted(order.tolist()) == list(range(16))
    assert (path.h[-1, :, :3] - other.h[0, order, :3]).abs().mean() < 0.1


def test_a_model_is_the_same_from_its_file(tmp_path):
    made = randomized()
    save(made, tmp_path / "small.safetensors", {"task": "generate shapes"})
    again = load(tmp_path / "small.safetensors", LionSparse)
    assert again.classes == ["plane", "ball"]
    one, other = (generate(m.prior, LABEL, 16, Sampler(2), gen()) for m in (made, again))
    assert torch.equal(one.h, other.h)


def test_a_small_world_is_learned():
    """Latents that are one of two fixed shapes: the class decides which comes out, and half of one asks for its other half."""
    torch.manual_seed(0)
    made, ends = model().prior, torch.randn(2, 1, 11, generator=gen(5)).repeat(1, ROWS + 16, 1)
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    for step in range(200):
        label = torch.randint(1, 3, (16,), generator=gen(step))
        optimiser.zero_grad()
        lion_sparse.losses(made, made.unpack(ends[label - 1]), label, gen(step))["loss"].backward()
        optimiser.step()
    label = torch.tensor([1, 2] * 4)
    found = made.pack(generate(made, label, 16, Sampler(20), gen()))
    near = (found.mean(1)[:, None] - ends.mean(1)).norm(dim=-1).argmin(1) + 1
    assert (near == label).float().mean() >= 0.9
    given = made.unpack(ends[label - 1]).h[:, :8]
    whole = made.pack(lion_sparse_edit.complete(made, given, 8, torch.zeros_like(label), Sampler(20), gen()))
    near = (whole[:, -8:].mean(1)[:, None] - ends[:, -8:].mean(1)).norm(dim=-1).argmin(1) + 1
    assert (near == label).float().mean() >= 0.9
