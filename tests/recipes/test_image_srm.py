"""The recipe of images that must count: batches, the states of a walk, and a loss that falls."""

from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

from becalm.core.files import InputError
from becalm.evaluation import image_tasks
from becalm.images import sudoku
from becalm.images.even_pixels import even_pixels
from becalm.recipes import image_srm
from becalm.systems import srm
from becalm.systems.srm import SRM
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

TINY = replace(
    image_srm.EVEN, batch=16, width=32, depth=1, plan=Plan(steps=60, rate=5e-3, warmup=5, ema=0.9, log_every=15)
)


@pytest.fixture
def small(monkeypatch):
    """Even pixels of 8 × 8 in patches of 2 × 2."""
    task = image_tasks.Task("even-pixels", partial(even_pixels, size=8), 8, 2, -0.3, 0.38)
    monkeypatch.setitem(image_tasks.TASKS, "even-pixels", task)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "recipe", [image_srm.EVEN, replace(image_srm.COUNTED, batch=2)], ids=["even_pixels", "polygons"]
)
def test_a_batch_is_a_function_of_seed_and_step(recipe):
    one, again, later, other = (
        image_srm.batch_of(r, torch.ones_like, step)
        for r, step in ((recipe, 3), (recipe, 3), (recipe, 4), (replace(recipe, seed=1), 3))
    )
    for a, b, c, d in zip(one[:2], again[:2], later[:2], other[:2], strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c) and not torch.equal(a, d)
    assert one.seed == again.seed != later.seed
    task = image_srm.task_of(recipe)
    assert one.x.shape == (recipe.batch, task.side**2, task.channels)
    assert one.t.shape == one.weight.shape == (*one.x.shape[:2], 1)
    assert one.x.square().mean().item() == pytest.approx(task.power, rel=0.5)
    assert not ((one.t > 0) & (one.t < image_srm.T_LEAST)).any()


def test_visited_states_end_often_and_count_alike():
    t, weight = image_srm.visited(replace(image_srm.EVEN, late=1.0), torch.zeros(4000, 64, 1), seeded())
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
    above = image_srm.raised(replace(image_srm.EVEN, led=0.2), t, seeded(1))
    assert not above[:, 0].any() and (above[:, 1] == 1).all()
    rise = above[:, 2:] - t[:, 2:]
    moved = rise.amax((1, 2)) > 0
    assert moved.double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert rise.min() >= 0 and rise.max() <= 0.2 and above.max() <= 1
    low = moved[:, None] & (t[:, 2:, 0] < 0.8)
    assert rise[..., 0][low].mean().item() == pytest.approx(0.1, abs=0.01)


def test_late_endings_leave_one_patch_in_half_of_them():
    t, weight = image_srm.visited(replace(image_srm.EVEN, late=3.0), torch.zeros(4000, 64, 1), seeded())
    left = (t[..., 0] > 0).sum(1)
    assert (left == 1).double().mean().item() == pytest.approx((1 / 6) ** (1 / 3), abs=0.03)
    assert torch.allclose(weight[:, 0, 0] * left, torch.tensor(64.0).double())
    _, less = image_srm.visited(replace(image_srm.EVEN, late=3.0, urgent=0.5), torch.zeros(4000, 64, 1), seeded())
    assert torch.allclose(less.square(), weight)


def test_visited_states_of_an_overlapping_walk():
    t, weight = image_srm.visited(replace(image_srm.EVEN, endings=0.0, active=4), torch.zeros(4000, 64, 1), seeded())
    moving = ((t > 0) & (t < 1)).sum((1, 2))
    assert sorted(moving.unique().tolist()) == [1, 2, 3, 4]
    assert (weight == 1).all()
    assert (t > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_what_holds_something_is_settled_late_or_early_kind_by_kind():
    recipe = replace(image_srm.COUNTED, endings=0.0)
    x = image_srm.task_of(recipe).real(1500, seeded())
    t, _ = image_srm.visited(recipe, x, seeded(1))
    flags, left = x[..., :14] > 2, t[..., 0] > 0
    late = (left & flags.any(-1)).sum(1) / flags.any(-1).sum(1) - left.double().mean(1)
    assert late.mean() > 0.08, "late on average"
    assert (late < -0.2).double().mean() > 0.02, "sometimes early"
    figures, numbers = flags[..., 9:].any(-1), flags[..., :9].any(-1)
    half = (left.double().mean(1) - 0.5).abs() < 0.2
    apart = (left & figures).sum(1) / figures.sum(1) - (left & numbers).sum(1) / 2
    assert apart[half].abs().mean() > 0.35, "numbers without figures, and the other way round"


def test_what_holds_something_is_nearly_settled_where_nothing_else_is_left():
    x = image_srm.task_of(image_srm.COUNTED).real(400, seeded())
    held = (x[..., :14] > 2).any(-1)
    t, weight = image_srm.visited(replace(image_srm.COUNTED, settling=1.0), x, seeded(1))
    assert torch.equal(t[..., 0] > 0, held) and t.max() < image_srm.NEARLY and (weight == 1).all()
    t, _ = image_srm.visited(image_srm.COUNTED, x, seeded(1))
    settling = ((t[..., 0] > 0) == held).all(1) & (t.amax(1) < image_srm.NEARLY)[:, 0]
    assert settling.double().mean().item() == pytest.approx(0.25, abs=0.06)
    with pytest.raises(InputError, match="--settling must be from 0 to 1"):
        image_srm.begun(replace(image_srm.COUNTED, settling=2.0))


def test_grains_are_not_for_plans():
    with pytest.raises(InputError, match="--grains: are pixels"):
        image_srm.begun(replace(image_srm.COUNTED, grains=3))


@pytest.mark.parametrize("kind", ["shared", "independent"])
def test_the_other_ways_to_draw_levels_fill_the_batch(kind):
    recipe = replace(TINY, times=kind, batch=64)
    batch = image_srm.batch_of(recipe, image_srm.weight_of(recipe), 0)
    spread = batch.t.std(1)
    assert ((spread < 1e-6) == (kind == "shared")).all()
    assert torch.allclose(batch.weight, batch.t.clamp_min(srm.SIGMA_LEAST)), (
        "between the error of x and of the velocity"
    )
    assert (image_srm.batch_of(replace(recipe, emphasis=0.0), torch.ones_like, 0).weight == 1).all()


def test_the_loss_falls_and_the_weights_come_back(tmp_path, small):
    records = list(image_srm.run(replace(TINY, run=tmp_path)))
    assert records[-1]["velocity"] < 0.98 * records[0]["velocity"]
    model = load(tmp_path / "even_pixels.safetensors", SRM)
    start = replace(TINY, start=tmp_path / "even_pixels.safetensors")
    assert torch.equal(image_srm.begun(start).network.blocks[0].attend.weight, model.network.blocks[0].attend.weight)


def test_plans_are_learned_and_come_back(tmp_path):
    tiny = {"batch": 8, "width": 16, "heads": 1, "depth": 1, "visited": 0.0, "run": tmp_path}
    records = list(image_srm.run(replace(image_srm.COUNTED, **tiny, plan=TINY.plan)))
    assert records[-1]["velocity"] < 0.96 * records[0]["velocity"]
    model = load(tmp_path / "polygons.safetensors", SRM)
    assert (model.config["near"], model.config["flags"], model.config["head"]) == (True, 14, "clean")
    assert model.error(torch.zeros(1, 1, 25), torch.eye(25)[None, 14:15]) == 0, "certainty is of what is there"
    assert model.error(torch.zeros(1, 1, 25), torch.eye(25)[None, :1]) == pytest.approx(1 / 14)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, small):
    def trained(folder, *ends):
        for steps in ends:
            recipe = replace(TINY, batch=4, run=tmp_path / folder, plan=replace(TINY.plan, steps=12, save_every=6))
            model, weight = image_srm.begun(recipe).train(), torch.ones_like
            batches = lambda start, r=recipe, w=weight: (image_srm.batch_of(r, w, k) for k in count(start))  # noqa: E731
            for record in train(
                model, partial(image_srm.loss, recipe), batches, replace(recipe.plan, log_every=1), recipe.run
            ):
                if record["step"] == steps:
                    break
        return record["loss"]

    assert trained("broken", 8, 12) == pytest.approx(trained("whole", 12), rel=1e-3), "but for rounding in bfloat16"


def test_weights_of_another_task_are_refused(tmp_path):
    save(SRM(196, sudoku.places(4).tolist(), [32, 4, 1, 1, 2]), tmp_path / "sudoku.safetensors", {})
    with pytest.raises(InputError, match=r"sudoku.safetensors: is for another task: .* 16 variables of 196 numbers"):
        image_srm.begun(replace(image_srm.EVEN, start=tmp_path / "sudoku.safetensors"))


@pytest.mark.parametrize("recipe", [image_srm.EVEN, image_srm.COUNTED], ids=["even_pixels", "polygons"])
def test_the_weights_are_small_enough(recipe):
    assert sum(p.numel() for p in image_srm.begun(recipe).parameters()) * 2 < 3e6, "bytes, at two each"
