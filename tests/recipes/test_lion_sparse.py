"""The recipes of LION: batches, cut shapes, latents kept, and a run that can be cut anywhere."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from becalm.core.files import InputError
from becalm.recipes import lion_sparse
from becalm.recipes.lion_sparse_health import likeness
from becalm.shapes import augment
from becalm.systems.lion_sparse import LionSparse
from becalm.systems.lion_sparse_autoencoder import Sizes
from becalm.training.loop import Plan
from becalm.weights.store import load, save

SMALL = replace(
    lion_sparse.FAMILIES,
    pool=12,
    seen=96,
    target=96,
    batch=4,
    prior_batch=4,
    views=1,
    check=2,
    sizes=Sizes(8, 8, 16, 2, 2, 4, 16, 1),
    prior_steps=4,
    plan=Plan(steps=4, warmup=1, log_every=1, save_every=2, bfloat16=False),
)


@pytest.fixture(scope="module")
def shapes():
    return lion_sparse.load_shapes(SMALL)


def test_a_batch_is_a_function_of_seed_and_step(shapes):
    one, again, other = (lion_sparse.make_batch(SMALL, shapes, step) for step in (2, 2, 3))
    assert torch.equal(one.seen, again.seen) and torch.equal(one.target, again.target)
    assert one.seed == again.seed != other.seed
    assert not torch.equal(one.seen, other.seen)
    assert one.seen.shape == (4, 96, 3) and one.anchors == 8


def test_seen_and_target_share_no_point(shapes):
    batch = lion_sparse.make_batch(SMALL, shapes, 0)
    assert torch.cdist(batch.seen, batch.target).min() > 0


def test_the_kl_weight_rises_over_the_first_half(shapes):
    weights = [lion_sparse.make_batch(SMALL, shapes, step).weight for step in range(4)]
    assert weights == pytest.approx([0, 0.0005, 0.001, 0.001])


def test_cut_shapes_lie_on_one_side_in_both_draws(shapes):
    batch = lion_sparse.make_batch(SMALL, shapes, SMALL.crop_every - 1)
    share = batch.seen.shape[1] / 96
    assert 0.29 < share < 0.81
    assert batch.anchors == round(8 * share) or abs(batch.anchors - 8 * share) < 1
    assert batch.target.shape[1] == batch.seen.shape[1]
    whole = torch.from_numpy(shapes.points)
    assert min(float(torch.cdist(batch.seen, whole[i : i + 1]).amin((1, 2)).min()) for i in range(12)) == 0


def test_a_cut_is_by_a_plane_that_both_halves_share():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(1, 500, 3, generator=generator) for _ in range(2))
    generator = torch.Generator().manual_seed(1)
    a, b = augment.crop_by_plane(one, 0.4, generator), augment.crop_by_plane(other, 0.4, generator)
    normal = torch.randn(1, 1, 3, generator=torch.Generator().manual_seed(1))
    edge = [(x * normal).sum(-1).max() for x in (a, b)]
    assert abs(float(edge[0] - edge[1])) < 0.2 * float(normal.norm())
    assert ((one * normal).sum(-1) <= edge[0]).sum() == 200


def test_the_patch_radius_is_measured(shapes):
    points = torch.rand(20, 192, 3, generator=torch.Generator().manual_seed(0)).numpy()
    cube = replace(shapes, points=points, labels=np.zeros(20, np.int64))
    fewer = replace(SMALL, sizes=Sizes(32))
    assert 0 < lion_sparse.measure_patch_radius(cube, fewer) < lion_sparse.measure_patch_radius(cube, SMALL) < 0.5


def test_a_run_that_was_cut_ends_as_one_that_was_not(tmp_path):
    records = list(lion_sparse.run(replace(SMALL, run=tmp_path / "whole")))
    stages = [r.get("stage") for r in records]
    assert stages.count(1) == 4 and stages.count(2) == 5
    checks = [r["chamfer_over_floor"] for r in records if "chamfer_over_floor" in r]
    assert len(checks) == 3 and all(0 < c < 20 for c in checks)
    apart = [(r["one_nna"], r["oracle"]) for r in records if "one_nna" in r]
    assert len(apart) == 2 and all(0 <= share <= 100 for pair in apart for share in pair)
    steps = lion_sparse.run(replace(SMALL, run=tmp_path / "cut"))
    for _ in range(3):
        next(steps)
    steps.close()
    steps = lion_sparse.run(replace(SMALL, run=tmp_path / "cut"))
    for record in steps:
        if record.get("stage") == 2 and record.get("step") == 3:
            break
    steps.close()
    list(lion_sparse.run(replace(SMALL, run=tmp_path / "cut")))
    one, other = (load(tmp_path / name / "lion_families.safetensors", LionSparse) for name in ("whole", "cut"))
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6, msg=name)
    assert one.classes == list(lion_sparse.load_shapes(SMALL).classes)


def test_the_oracle_is_of_other_shapes(shapes):
    model = lion_sparse.build_model(SMALL, shapes).eval()
    test = lion_sparse.load_shapes(SMALL, "test", 12)
    assert likeness(model, test, test)["oracle"] < 20 < likeness(model, shapes, test)["oracle"]
    assert likeness(model, shapes, test)["one_nna"] > 80


def test_a_run_may_start_from_weights_and_leave_stage_1_as_it_is(tmp_path, shapes):
    first = lion_sparse.build_model(replace(SMALL, seed=5), shapes)
    save(first, tmp_path / "first.safetensors", {"task": "generate shapes"})
    recipe = replace(
        SMALL, start=tmp_path / "first.safetensors", run=tmp_path / "next", plan=replace(SMALL.plan, steps=0)
    )
    assert {r["stage"] for r in lion_sparse.run(recipe) if "stage" in r} == {2}
    after = load(tmp_path / "next" / "lion_families.safetensors", LionSparse)
    for (name, a), b in zip(first.state_dict().items(), after.state_dict().values(), strict=True):
        same = torch.allclose(a, b, rtol=0, atol=2e-3)
        assert same or name.startswith("prior."), name
    assert not torch.equal(first.prior.point_denoiser.head.weight, after.prior.point_denoiser.head.weight)
    other = replace(shapes, classes=("ball",), labels=0 * shapes.labels)
    others = lion_sparse.build_model(recipe, replace(other, classes=("ball", first.classes[1])))
    assert others.classes == ["ball", first.classes[1]]
    for (name, a), b in zip(first.state_dict().items(), others.state_dict().values(), strict=True):
        assert torch.equal(a[[0, 0, 2]] if name.endswith("label.weight") else a, b), name
    with pytest.raises(InputError, match="latents of other shapes; give another --run"):
        list(lion_sparse.run(replace(recipe, pool=11)))


def test_a_folder_of_shapes_is_learned_from(tmp_path):
    rng = np.random.default_rng(0)
    for name, squeeze in (("ball", 1.0), ("plate", 0.1)):
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(6):
            ball = rng.standard_normal((300, 3))
            np.savetxt(
                tmp_path / "mine" / name / f"{i}.xyz", ball / np.linalg.norm(ball, axis=1)[:, None] * [1, squeeze, 1]
            )
    recipe = replace(SMALL, shapes="folder", data=tmp_path / "mine", run=tmp_path / "run")
    known, held = lion_sparse.load_shapes(recipe), lion_sparse.load_shapes(recipe, "test")
    assert (len(known), len(held)) == (10, 2) and known.classes == ("ball", "plate")
    list(lion_sparse.run(recipe))
    assert load(tmp_path / "run" / "lion_folder.safetensors", LionSparse).classes == ["ball", "plate"]
    assert sorted(held.labels) == [0, 1]
    (tmp_path / "one").mkdir()
    (tmp_path / "mine" / "ball" / "0.xyz").rename(tmp_path / "one" / "0.xyz")
    for name, words in (("one", "no class has two shapes"), ("none", "give --data the folder of your shapes")):
        with pytest.raises(InputError, match=f"{name}: .*{words}"):
            lion_sparse.load_shapes(replace(recipe, data=tmp_path / name))


def test_corrupted_points_lie_near_the_clean_ones():
    points = 2 * torch.rand(4, 500, 3, generator=torch.Generator().manual_seed(0)) - 1
    made = [corrupt(points, torch.Generator().manual_seed(1)) for corrupt in (augment.add_noise, augment.snap_to_grid)]
    assert made[0].sub(points).abs().mean((1, 2)).max() < 0.06
    assert made[1].sub(points).abs().max() <= 1 / 6 + 1e-6
    assert min(len(shape.unique(dim=0)) for shape in made[1]) < 500 or made[1].sub(points).std() > 0.01


def test_only_the_encoder_is_trained_where_that_is_asked(tmp_path, shapes, monkeypatch):
    start = lion_sparse.build_model(SMALL, shapes)
    save(start, tmp_path / "start.safetensors", {})
    recipe = replace(
        SMALL,
        start=tmp_path / "start.safetensors",
        run=tmp_path / "run",
        trained="encoder",
        corrupt_every=2,
        prior_steps=0,
    )
    list(lion_sparse.run(recipe))
    (path,) = (tmp_path / "run").glob("lion_*.safetensors")
    state, before = load(path, LionSparse).state_dict(), start.state_dict()
    changed = {name.split(".")[1] for name in state if not torch.allclose(state[name], before[name].half().float())}
    assert changed == {"encoder"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"check": 0}, "--check 0: must be at least 1"),
        ({"views": 0}, "--views 0"),
        ({"trained": "encoder"}, "needs trained weights"),
        ({"sizes": SMALL.sizes._replace(heads=3)}, "--heads 3 a divisor"),
        ({"sizes": SMALL.sizes._replace(features=4)}, "--features must be at least 6"),
        ({"sizes": SMALL.sizes._replace(anchors=10**4)}, "--anchors 10000: must be from 1"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(change, words):
    with pytest.raises(InputError, match=words):
        next(lion_sparse.run(replace(SMALL, **change)))


def test_latents_are_made_once(tmp_path, shapes):
    model = lion_sparse.build_model(SMALL, shapes).autoencoder
    path = tmp_path / "latents.safetensors"
    store = lion_sparse.encode_shapes(SMALL, model, shapes, path)
    assert store.h.shape == (12, 8, 11) and store.z.shape == (12, 66)
    assert (store.label == torch.from_numpy(shapes.labels) + 1).all()
    kept = load_file(path)
    save_file({**kept, "h": kept["h"] + 1}, path)
    assert torch.equal(lion_sparse.encode_shapes(SMALL, model, shapes, path).h, store.h + 1)
    save_file({"h": kept["h"]}, path)
    with pytest.raises(InputError, match="holds no latents"):
        lion_sparse.encode_shapes(SMALL, model, shapes, path)


def test_parts_of_ldraw_are_found(shared):
    recipe = replace(SMALL, shapes="ldraw", data=shared("data/ldraw_parts_4096.npz"))
    found = lion_sparse.load_shapes(recipe, "test")
    assert len(found) == 665 and len(found.classes) == 31
    assert lion_sparse.make_batch(recipe, found, 0).seen.abs().max() <= 1
