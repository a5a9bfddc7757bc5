"""Every task has a function that returns its result and a twin that yields reports: they take the same."""

import inspect
from importlib import import_module

import pytest

import becalm

VERBS = ("solve", "generate", "complete", "interpolate", "vary", "likelihood", "compress", "decompress", "train")


@pytest.mark.parametrize("verb", VERBS)
def test_a_task_and_its_twin_take_the_same(verb):
    module = import_module(f"becalm.tasks.{verb}")
    function, twin = (inspect.signature(f).parameters.values() for f in (getattr(module, verb), module.steps))
    assert [(p.name, p.default, p.kind) for p in function] == [(p.name, p.default, p.kind) for p in twin]
    assert getattr(becalm, verb) is getattr(module, verb)


def test_denoise_takes_the_options_of_its_twin():
    module = import_module("becalm.tasks.denoise")
    function, twin = (list(inspect.signature(f).parameters) for f in (module.denoise, module.steps))
    assert function == [name for name in twin if name != "warn"]
