"""The recipe of images that must count: batches, the states of a walk, and a loss that falls."""

from dataclasses import replace
from functools import partial
from itertools import count

import pytest
import torch

from becalm.core.files import InputError
from becalm.images import sudoku
from becalm.images.even_pixels import even_pixels
from becalm.recipes import image_srm, image_tasks
from becalm.recipes.image_tasks import TASKS
from becalm.systems.srm import SIGMA_MIN, SRM
from becalm.systems.srm_polygons import PolygonSRM
from becalm.training.loop import Plan, train
from becalm.weights.store import load, save

TINY = replace(
    image_srm.EVEN_PIXELS,
    batch=16,
    width=32,
    depth=1,
    plan=Plan(steps=60, learning_rate=5e-3, warmup=5, ema_decay=0.9, log_every=15),
)


@pytest.fixture
def small(monkeypatch):
    """Even pixels of 8 × 8 in patches of 2 × 2."""
    task = image_tasks.Task("even-pixels", partial(even_pixels, size=8), 8, 2, -0.3, 0.38)
    monkeypatch.setitem(image_tasks.TASKS, "even-pixels", task)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def states_of_nothing(**fields):
    """4000 sequential states of 64 variables, and their weights."""
    return image_srm.sequential_states(replace(image_srm.EVEN_PIXELS, **fields), torch.zeros(4000, 64, 1), seeded())


@pytest.mark.parametrize(
    "recipe", [image_srm.EVEN_PIXELS, replace(image_srm.POLYGONS, batch=2)], ids=["even_pixels", "polygons"]
)
def test_a_batch_is_a_function_of_seed_and_step(recipe):
    one, again, later, other = (
        image_srm.make_batch(r, torch.ones_like, step)
        for r, step in ((recipe, 3), (recipe, 3), (recipe, 4), (replace(recipe, seed=1), 3))
    )
    for a, b, c, d in zip(one[:2], again[:2], later[:2], other[:2], strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c) and not torch.equal(a, d)
    assert one.seed == again.seed != later.seed
    task = TASKS[recipe.task]
    assert one.x.shape == (recipe.batch, task.side**2, task.channels)
    assert one.t.shape == one.weight.shape == (*one.x.shape[:2], 1)
    assert one.x.square().mean().item() == pytest.approx(task.data_variance, rel=0.5)
    assert not ((one.t > 0) & (one.t < image_srm.T_MIN)).any()


def test_sequential_states_end_often_and_count_alike():
    t, weight = states_of_nothing(ending_exponent=1.0)
    t = t[..., 0]
    assert (((t > 0) & (t < 1)).sum(1) == 1).all()
    left = (t > 0).sum(1)
    assert ((t > 0) * weight[..., 0]).sum(1).allclose(torch.tensor(64.0).double()), (
        "whatever is left, an image weighs 64"
    )
    log = (left.double().log() / torch.tensor(64.0).log()).mean()
    assert 0.35 < log < 0.5, "uniform in logarithm, rounded down"
    assert (left == 1).double().mean().item() == pytest.approx(1 / 6, abs=0.03)


def test_rollouts_start_higher_in_half_of_the_images_and_never_at_clean_variables():
    t = torch.rand(400, 64, 1, generator=seeded(), dtype=torch.float64)
    t[:, 0], t[:, 1] = 0, 1
    above = image_srm.rollout_start(replace(image_srm.EVEN_PIXELS, rollout_range=0.2), t, seeded(1))
    assert not above[:, 0].any() and (above[:, 1] == 1).all()
    rise = above[:, 2:] - t[:, 2:]
    moved = rise.amax((1, 2)) > 0
    assert moved.double().mean().item() == pytest.approx(0.5, abs=0.1)
    assert rise.min() >= 0 and rise.max() <= 0.2 and above.max() <= 1
    low = moved[:, None] & (t[:, 2:, 0] < 0.8)
    assert rise[..., 0][low].mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_greater_exponent_leaves_one_patch_in_half_of_the_endings():
    t, weight = states_of_nothing(ending_exponent=3.0)
    left = (t[..., 0] > 0).sum(1)
    assert (left == 1).double().mean().item() == pytest.approx((1 / 6) ** (1 / 3), abs=0.03)
    assert torch.allclose(weight[:, 0, 0] * left, torch.tensor(64.0).double())
    _, less = states_of_nothing(ending_exponent=3.0, ending_weight=0.5)
    assert torch.allclose(less.square(), weight)


def test_sequential_states_of_an_overlapping_walk():
    t, weight = states_of_nothing(ending_share=0.0, max_active=4)
    moving = ((t > 0) & (t < 1)).sum((1, 2))
    assert sorted(moving.unique().tolist()) == [1, 2, 3, 4]
    assert (weight == 1).all()
    assert (t > 0).double().mean().item() == pytest.approx(0.5, abs=0.03)


def test_categories_come_late_or_early_one_by_one():
    recipe = replace(image_srm.POLYGONS, ending_share=0.0)
    x = TASKS[recipe.task].sample_patches(1500, seeded())
    t, _ = image_srm.sequential_states(recipe, x, seeded(1))
    flags, left = x[..., :14] > 2, t[..., 0] > 0
    late = (left & flags.any(-1)).sum(1) / flags.any(-1).sum(1) - left.double().mean(1)
    assert late.mean() > 0.08, "late on average"
    assert (late < -0.2).double().mean() > 0.02, "sometimes early"
    figures, numbers = flags[..., 9:].any(-1), flags[..., :9].any(-1)
    half = (left.double().mean(1) - 0.5).abs() < 0.2
    apart = (left & figures).sum(1) / figures.sum(1) - (left & numbers).sum(1) / 2
    assert apart[half].abs().mean() > 0.35, "numbers without figures, and the other way round"


def test_patches_with_a_category_are_nearly_clean_where_no_others_are_left():
    x = TASKS["polygons"].sample_patches(400, seeded())
    held = (x[..., :14] > 2).any(-1)
    t, weight = image_srm.sequential_states(replace(image_srm.POLYGONS, nearly_clean_share=1.0), x, seeded(1))
    assert torch.equal(t[..., 0] > 0, held) and t.max() < image_srm.NEARLY_CLEAN and (weight == 1).all()
    t, _ = image_srm.sequential_states(image_srm.POLYGONS, x, seeded(1))
    settling = ((t[..., 0] > 0) == held).all(1) & (t.amax(1) < image_srm.NEARLY_CLEAN)[:, 0]
    assert settling.double().mean().item() == pytest.approx(0.25, abs=0.06)
    with pytest.raises(InputError, match="--nearly-clean-share must be from 0 to 1"):
        image_srm.build_model(replace(image_srm.POLYGONS, nearly_clean_share=2.0))


def test_pixels_are_not_for_layouts():
    with pytest.raises(InputError, match="are about pixels"):
        image_srm.build_model(replace(image_srm.POLYGONS, pixel_depth=3))
    with pytest.raises(InputError, match="--feature-loss-weight: needs features"):
        image_srm.build_model(replace(image_srm.EVEN_PIXELS, pooled_context=False))


@pytest.mark.parametrize("kind", ["shared", "independent"])
def test_the_other_ways_to_draw_levels_fill_the_batch(kind):
    recipe = replace(TINY, times=kind, batch=64)
    batch = image_srm.make_batch(recipe, image_srm.level_weight(recipe), 0)
    spread = batch.t.std(1)
    assert ((spread < 1e-6) == (kind == "shared")).all()
    assert torch.allclose(batch.weight, batch.t.clamp_min(SIGMA_MIN)), "between the error of x and of the velocity"
    assert (image_srm.make_batch(replace(recipe, sigma_power=0.0), torch.ones_like, 0).weight == 1).all()


def test_the_loss_falls_and_the_weights_come_back(tmp_path, small):
    records = list(image_srm.run(replace(TINY, run=tmp_path)))
    assert records[-1]["velocity"] < 0.98 * records[0]["velocity"]
    model = load(tmp_path / "even_pixels.safetensors", SRM)
    start = replace(TINY, start=tmp_path / "even_pixels.safetensors")
    assert torch.equal(
        image_srm.build_model(start).network.blocks[0].attend.weight, model.network.blocks[0].attend.weight
    )


def test_layouts_are_learned_and_come_back(tmp_path):
    tiny = {"batch": 8, "width": 16, "heads": 1, "depth": 1, "sequential_share": 0.0, "run": tmp_path}
    records = list(image_srm.run(replace(image_srm.POLYGONS, **tiny, plan=TINY.plan)))
    assert records[-1]["velocity"] < 0.96 * records[0]["velocity"]
    model = load(tmp_path / "polygons.safetensors", SRM)
    assert (type(model), model.config["features"], model.head) == (PolygonSRM, 14, "clean")
    assert model.feature_error(torch.zeros(1, 1, 25), torch.eye(25)[None, 14:15]) == 0, "certainty is of what is there"
    assert model.feature_error(torch.zeros(1, 1, 25), torch.eye(25)[None, :1]) == pytest.approx(1 / 14)


def test_a_run_that_was_interrupted_ends_as_one_that_was_not(tmp_path, small):
    def trained(folder, *ends):
        for steps in ends:
            recipe = replace(TINY, batch=4, run=tmp_path / folder, plan=replace(TINY.plan, steps=12, save_every=6))
            model, weight = image_srm.build_model(recipe).train(), torch.ones_like
            batches = lambda start, r=recipe, w=weight: (image_srm.make_batch(r, w, k) for k in count(start))  # noqa: E731
            for record in train(
                model, partial(image_srm.loss, recipe), batches, replace(recipe.plan, log_every=1), recipe.run
            ):
                if record["step"] == steps:
                    break
        return record["loss"]

    assert trained("broken", 8, 12) == pytest.approx(trained("whole", 12), rel=1e-3), "but for rounding in bfloat16"


def test_weights_of_another_task_are_refused(tmp_path):
    save(
        SRM.build(channels=196, places=sudoku.places(4).tolist(), shape=[32, 4, 1, 1, 2]),
        tmp_path / "sudoku.safetensors",
        {},
    )
    with pytest.raises(InputError, match=r"sudoku.safetensors: is for another task: .* 16 variables of 196 numbers"):
        image_srm.build_model(replace(image_srm.EVEN_PIXELS, start=tmp_path / "sudoku.safetensors"))


@pytest.mark.parametrize("recipe", [image_srm.EVEN_PIXELS, image_srm.POLYGONS], ids=["even_pixels", "polygons"])
def test_the_weights_are_small_enough(recipe):
    assert sum(p.numel() for p in image_srm.build_model(recipe).parameters()) * 2 < 3e6, "bytes, at two each"
