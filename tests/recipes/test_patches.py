"""The recipe of images that must count: batches, the states of a walk, and a loss that falls."""

from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

from becalm.core.files import InputError
from becalm.images import sudoku
from becalm.images.even_pixels import even_pixels
from becalm.images.polygon_plan import told
from becalm.recipes import patches
from becalm.systems import pictures, srm
from becalm.systems.srm import SRM
from becalm.systems.store import load, save
from becalm.train.loop import Plan, train

TINY = replace(
    patches.EVEN, batch=16, width=32, depth=1, plan=Plan(steps=60, rate=5e-3, warmup=5, ema=0.9, log_every=15)
)


@pytest.fixture
def small(monkeypatch):
    """Even pixels of 8 × 8 in patches of 2 × 2."""
    task = pictures.Task("even-pixels", partial(even_pixels, size=8), 8, 2, -0.3, 0.38, pictures.coordinates)
    monkeypatch.setitem(pictures.TASKS, "even-pixels", task)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("recipe", [patches.EVEN, replace(patches.COUNTED, batch=2)], ids=["even_pixels", "polygons"])
def test_a_batch_is_a_function_of_seed_and_step(recipe):
    one, again, later, other = (
        patches.batch_of(r, torch.ones_like, step)
        for r, step in ((recipe, 3), (recipe, 3), (recipe, 4), (replace(recipe, seed=1), 3))
    )
    for a, b, c, d in zip(one[:2], again[:2], later[:2], other[:2], strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c) and not torch.equal(a, d)
    assert one.seed == again.seed != later.seed
    task = patches.task_of(recipe)
    assert one.x.shape == (recipe.batch, task.side**2, task.channels)
    assert one.t.shape == one.weight.shape == (*one.x.shape[:2], 1)
    assert one.x[..., : task.pixels].square().mean().item() == pytest.approx(task.power, rel=0.5)
    assert not ((one.t > 0) & (one.t < patches.T_LEAST)).any()


def test_visited_states_end_often_and_count_alike():
    t, weight = patches.visited(replace(patches.EVEN, late=1.0), torch.zeros(4000, 64, 1), seeded())
    t = t[..., 0]
    assert (((t > 0) & (t < 1)).sum(1) == 1).all()
    left = (t > 0).sum(1)
    assert ((t > 0) * weight[..., 0]).sum(1).allclose(torch.tensor(64.0).double()), (
        "whatever is left, an image weighs 64"
    )
    log = (left.double().log() / torch.tensor(64.0).log()).mean()
    assert 0.35 < log < 0.5, "uniform in logarithm, rounded down"
    assert (left == 1).double().mean().item() == pytest.approx(1 / 6, abs=0.03)


def test_levels_are_raised_in_half_of_the_images_and_never_where_nothing_is_noisy():
    t = torch.rand(400, 64, 1, generator=seeded(), dtype=torch.float64)
    t[:, 0], t[:, 1] = 0, 1
    above = patches.raised(replace(patches.EVEN, led=0.2), t, seeded(1))
    assert not above[:, 0].any() and (above[:, 1] == 1).all()
    rise = above[:, 2:] - t[:, 2:]
    moved = rise.amax((1, 2)) > 0
    assert moved.double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert rise.min() >= 0 and rise.max() <= 0.2 and above.max() <= 1
    low = moved[:, None] & (t[:, 2:, 0] < 0.8)
    assert rise[..., 0][low].mean().item() == pytest.approx(0.1, abs=0.01)


def test_late_endings_leave_one_patch_in_half_of_them():
    t, weight = patches.visited(replace(patches.EVEN, late=3.0), torch.zeros(4000, 64, 1), seeded())
    left = (t[..., 0] > 0).sum(1)
    assert (left == 1).double().mean().item() == pytest.approx((1 / 6) ** (1 / 3), abs=0.03)
    assert torch.allclose(weight[:, 0, 0] * left, torch.tensor(64.0).double())


def test_visited_states_of_an_overlapping_walk():
    t, weight = patches.visited(replace(patches.EVEN, endings=0.0, active=4), torch.zeros(4000, 64, 1), seeded())
    moving = ((t > 0) & (t < 1)).sum((1, 2))
    assert sorted(moving.unique().tolist()) == [1, 2, 3, 4]
    assert (weight == 1).all()
    assert (t > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_coherent_states_keep_neighbours_together_and_often_settle_the_ground_first():
    task = pictures.POLYGONS
    x = pictures.real_patches(task, 64, seeded())
    rank, left = patches.coherent(task, x, seeded(1))
    rank, mixed = rank.argsort(1).argsort(1).double(), left[:, 0] == 0
    planes = rank.view(-1, 16, 16)
    apart = (planes[:, 1:] - planes[:, :-1]).abs().mean((1, 2))
    assert apart.mean() < 0.75 * 256 / 3, "of chance alone, ranks of neighbours differ by a third of all"
    drawn_on = x[..., : task.pixels].unflatten(-1, (-1, 3)).std(-2).amax(-1) > 0.1
    late = [rank[i][drawn_on[i]].mean() > rank[i][~drawn_on[i]].mean() for i in mixed.nonzero()[:, 0]]
    assert torch.stack(late).double().mean() > 0.6


def test_coherent_states_lack_whole_things_in_half_of_the_images_and_often_numbers():
    task = pictures.POLYGONS
    x = pictures.real_patches(task, 200, seeded())
    rank, left = patches.coherent(task, x, seeded(1))
    assert (left > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)
    hidden = rank.argsort(1).argsort(1) >= 256 - left
    kind, way, _ = told(x[..., task.pixels :])
    at = torch.stack([torch.arange(256) % 16, torch.arange(256) // 16], -1) + way
    whole = numbers = 0
    for i in (left[:, 0] > 0).nonzero()[:, 0]:
        things = [(at[i] - at[i, j]).norm(dim=-1) < 0.01 for j in (kind[i] * hidden[i]).nonzero()[:, 0]]
        whole += any(hidden[i][thing & (kind[i] > 0)].all() for thing in things)
        numbers += any(
            hidden[i][thing & (kind[i] > 0)].all() and (kind[i][thing] < 10).all() and kind[i][thing].all()
            for thing in things
        )
    images = (left > 0).sum()
    assert whole > 0.85 * images and numbers > 0.4 * images


def test_coherent_states_need_a_plan():
    with pytest.raises(InputError, match="--coherent: needs images with a plan"):
        patches.begun(replace(patches.EVEN, coherent=True))


@pytest.mark.parametrize("kind", ["shared", "independent"])
def test_the_other_ways_to_draw_levels_fill_the_batch(kind):
    recipe = replace(TINY, times=kind, batch=64)
    batch = patches.batch_of(recipe, patches.weight_of(recipe), 0)
    spread = batch.t.std(1)
    assert ((spread < 1e-6) == (kind == "shared")).all()
    assert torch.allclose(batch.weight, batch.t.clamp_min(srm.SIGMA_LEAST)), (
        "between the error of x and of the velocity"
    )
    assert (patches.batch_of(replace(recipe, emphasis=0.0), torch.ones_like, 0).weight == 1).all()


def test_the_loss_falls_and_the_weights_come_back(tmp_path, small):
    records = list(patches.run(replace(TINY, run=tmp_path)))
    assert records[-1]["velocity"] < 0.98 * records[0]["velocity"]
    model = load(tmp_path / "even_pixels.safetensors", SRM)
    start = replace(TINY, start=tmp_path / "even_pixels.safetensors")
    assert torch.equal(patches.begun(start).network.blocks[0].attend.weight, model.network.blocks[0].attend.weight)


def test_a_mosaic_learns_and_comes_back(tmp_path):
    tiny = {"batch": 4, "width": 16, "fine": 8, "depth": 1, "visited": 0.0, "run": tmp_path}
    records = list(patches.run(replace(patches.COUNTED, **tiny, plan=TINY.plan)))
    assert records[-1]["velocity"] < 0.9 * records[0]["velocity"]
    model = load(tmp_path / "polygons.safetensors", SRM)
    assert (model.config["fine"], model.config["plan"]) == ([8, 2], 22)
    assert model.error(torch.zeros(1, 1, 214), torch.eye(214)[None, :1]) == 0, "certainty is of the plan"
    assert model.error(torch.zeros(1, 1, 214), torch.eye(214)[None, -1:]) == pytest.approx(1 / 22)


def test_a_plan_needs_convolutions():
    with pytest.raises(InputError, match="--fine 0: only convolutions"):
        patches.begun(replace(patches.COUNTED, fine=0))


def test_sums_are_not_for_convolutions():
    with pytest.raises(InputError, match=r"--fine: sees pixels and sums of plans; give --grains 3 and --no-summed"):
        patches.begun(replace(patches.EVEN, fine=8))


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, small):
    def trained(folder, *ends):
        for steps in ends:
            recipe = replace(TINY, batch=4, run=tmp_path / folder, plan=replace(TINY.plan, steps=12, save_every=6))
            model, weight = patches.begun(recipe).train(), torch.ones_like
            batches = lambda start, r=recipe, w=weight: (patches.batch_of(r, w, k) for k in count(start))  # noqa: E731
            for record in train(
                model, partial(patches.loss, recipe), batches, replace(recipe.plan, log_every=1), recipe.run
            ):
                if record["step"] == steps:
                    break
        return record["loss"]

    assert trained("broken", 8, 12) == pytest.approx(trained("whole", 12), rel=1e-3), "but for rounding in bfloat16"


def test_weights_of_another_task_are_refused(tmp_path):
    save(SRM(196, sudoku.places(4).tolist(), [32, 4, 1, 1, 2]), tmp_path / "sudoku.safetensors", {})
    with pytest.raises(InputError, match=r"sudoku.safetensors: is for another task: .* 16 variables of 196 numbers"):
        patches.begun(replace(patches.EVEN, start=tmp_path / "sudoku.safetensors"))


@pytest.mark.parametrize("recipe", [patches.EVEN, patches.COUNTED], ids=["even_pixels", "polygons"])
def test_the_weights_are_small_enough(recipe):
    assert sum(p.numel() for p in patches.begun(recipe).parameters()) * 2 < 3e6, "bytes, at two each"
