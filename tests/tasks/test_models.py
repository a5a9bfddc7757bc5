"""What ships is listed with what it is for, what it takes and its card."""

import pytest

import becalm
from becalm.weights.packaged import WEIGHTS

MODELS = {model.name: model for model in becalm.models()}


def test_every_file_of_weights_is_listed():
    assert set(MODELS) == {path.stem for path in WEIGHTS.glob("*.safetensors")}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_says_what_it_takes_and_has_a_card(name):
    assert MODELS[name].takes
    assert MODELS[name].card.startswith(f"# {name}")
    assert all(callable(getattr(becalm, verb)) for verb in MODELS[name].verbs if hasattr(becalm, verb))


@pytest.mark.parametrize("name", MODELS)
def test_models_have_the_methods_that_their_verbs_need(name):
    model, methods = becalm.load(name), {"denoise": "iter_denoise", "generate": "generate", "solve": "solve"}
    of_images = "evaluate" in MODELS[name].verbs  # SRM of images solves too, but has no puzzle to be given
    assert {verb for verb, method in methods.items() if hasattr(model, method)} - (
        {"solve"} if of_images else set()
    ) == {verb for verb in MODELS[name].verbs if verb in methods}


def test_models_print_as_a_table():
    assert "jets           denoise " in repr(becalm.models())
    assert "a grid of 9 × 9 cells, each of 14 × 14 pixels, and a mask" in repr(becalm.models())
    assert "<td>jets</td><td>denoise</td>" in becalm.models()._repr_html_()
