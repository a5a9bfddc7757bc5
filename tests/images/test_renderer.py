"""Rendering layouts: learned from pixels; each drawing where it is, in its colour and turned as it is."""

from dataclasses import replace

import pytest
import torch

from becalm.core.files import InputError
from becalm.images.counting_polygons import renderer
from becalm.images.counting_polygons.layout import LAYOUT_CHANNELS, encode_layout
from becalm.images.counting_polygons.renderer import render, render_pixels, sample_pixels
from becalm.images.counting_polygons.scenes import plain_background, polygons
from becalm.nets.coverage import CoverageNetwork
from becalm.recipes.painter import Recipe, run
from becalm.weights.store import load


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def packaged() -> CoverageNetwork:
    return load("painter", CoverageNetwork)


def test_examples_are_pixels_of_the_image_mostly_around_drawings():
    scenes = polygons(20, seeded(), background=plain_background)
    at, colour = sample_pixels(scenes, 200, seeded(1))
    assert at.min() > 0 and at.max() < 1
    row, column = (at * 128).long().unbind(-1)[::-1]
    assert torch.equal(colour, scenes.images[torch.arange(20)[:, None], row, column])
    off = (colour - scenes.images[:, :1, 0]).abs().amax(-1) > 0.1
    assert 0.15 < off.double().mean() < 0.5


def test_it_learns_and_the_recipe_writes_the_weights(tmp_path):
    records = list(run(Recipe(run=tmp_path, steps=12, log_every=4, images=4)))
    assert [record["step"] for record in records] == [4, 8, 12, 12]
    assert records[2]["error"] < records[0]["error"] and 0 <= records[-1]["right"] <= 1
    scenes = polygons(2, seeded(5), background=plain_background)
    images = render(load(tmp_path / "painter.safetensors", CoverageNetwork), encode_layout(scenes, 16), 128)
    assert images.shape == (2, 128, 128, 3)


def test_no_steps_are_refused(tmp_path):
    with pytest.raises(InputError, match="--steps and --images: must be at least 1"):
        next(run(Recipe(run=tmp_path, steps=0)))


def test_fitting_is_a_function_of_the_generator():
    one, again, other = (list(renderer.fit(2, seeded(k), batch=2, pixels=16))[-1][1] for k in (0, 0, 1))
    assert one == again != other


def test_a_drawing_is_where_its_layout_has_it_and_turned_so(packaged):
    scenes = polygons(12, seeded(2), background=plain_background)
    moved = replace(scenes, turn=scenes.turn + 0.4)
    one, other = render(packaged, encode_layout(scenes, 16), 128), render(packaged, encode_layout(moved, 16), 128)
    assert (one - scenes.images).square().mean() < 0.002 < (other - scenes.images).square().mean()


def test_any_size_may_be_rendered(packaged):
    scenes = polygons(4, seeded(3), 64, plain_background)
    assert (render(packaged, encode_layout(scenes, 16), 64) - scenes.images).square().mean() < 0.004


def test_what_is_not_there_is_not_rendered(packaged):
    layouts = encode_layout(polygons(2, seeded(3), background=plain_background), 16)
    hidden = layouts.clone()
    hidden[..., :14] = 0
    assert not render(packaged, hidden, 32).any(), "neither is the ground, which the drawings tell"
    both = torch.cat([layouts[:1], hidden[:1]])
    with torch.inference_mode():
        at = torch.rand(2, 50, 2, generator=seeded())
        together, alone = render_pixels(packaged, both, at, 128), render_pixels(packaged, layouts[:1], at[:1], 128)
    torch.testing.assert_close(together[:1], alone)
    assert not together[1].any() and layouts.shape[-1] == LAYOUT_CHANNELS


def test_drawings_are_vivid_whatever_the_layout_says_of_their_colour(packaged):
    scenes = polygons(6, seeded(4), background=plain_background)
    layouts = encode_layout(scenes, 16)
    dull = layouts.clone()
    dull[..., 19:22] = 0.2 * layouts[..., 19:22] - 0.3 * (layouts[..., :14] > 2).any(-1, keepdim=True)
    torch.testing.assert_close(render(packaged, dull, 64), render(packaged, layouts, 64), atol=1e-4, rtol=0)
