"""The codec: every image comes back bit for bit, at the length of the bound."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.compression import archive, bits_back
from becalm.compression.ans import Stack, Uneven, random_words
from becalm.core import kinds, likelihood
from becalm.core.denoiser import Denoiser
from becalm.core.files import InputError
from becalm.core.schedule import Linear
from becalm.systems.vdm import VDM, NetworkConfig, NoiseConfig, images_to_variables

pytest.importorskip("constriction")


def small(levels=17, colours=1, seed=0):
    """A VDM of random weights, and images of its shape."""
    torch.manual_seed(seed)
    low = -13.3 + 2 * math.log(256 / levels)
    network = NetworkConfig("mlp", {"width": 16, "depth": 1})
    model = VDM([3, 4, colours], levels, "levels", network, NoiseConfig(gamma_min=low), features=4).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    return model


def drawn(model, count, seed=0):
    shape = (count, *model.shape)
    return torch.randint(model.levels, shape, generator=torch.Generator().manual_seed(seed))


def chain_of(model, steps):
    return bits_back.chain(model.denoiser, model.levels, steps, model.start)


def there_and_back(model, images, steps, batch=64):
    chain, v = chain_of(model, steps), images_to_variables(model, images)
    *_, coded = bits_back.encode(chain, v, batch)
    assert coded.count == len(v) == sum(coded.groups)
    return torch.cat(list(bits_back.decode(chain, coded, (v.shape[1], v.shape[2])))[::-1]).equal(v), coded


@pytest.mark.parametrize("levels", [2, 17, 256, 1000])
@pytest.mark.parametrize("colours", [1, 3])
def test_every_image_comes_back(levels, colours):
    model = small(levels, colours)
    for count, steps, batch in ((1, 1, 1), (30, 6, 8)):
        right, coded = there_and_back(model, drawn(model, count), steps, batch)
        assert right
        assert max(coded.groups) <= batch


@pytest.mark.parametrize("head", ["levels", "eps", "v", "x"])
@pytest.mark.parametrize(("network", "schedule"), [("mlp", "linear"), ("mlp", "learned"), ("flat", "linear")])
def test_every_kind_of_model_codes(head, network, schedule):
    torch.manual_seed(1)
    parts = NetworkConfig(network, {"width": 8, "depth": 1}), NoiseConfig(schedule, gamma_min=-8.0)
    model = VDM([4, 4, 1], 16, head, *parts).eval()
    assert there_and_back(model, drawn(model, 12), 4)[0]


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.5, 3.0, 8.0, 700.0]), st.floats(0, 1e5))
@settings(max_examples=40, deadline=None)
def test_a_stack_gives_back_what_it_took(seed, count, std, far):
    rng = np.random.default_rng(seed)
    stack, means = Stack.random(), rng.normal(size=(2, count)) * far
    z = stack.pop_sampled(means[0], std)
    stack.push_normal(z, means[1] * 3, std)
    start, table = rng.integers(0, 9, count), rng.random((count, 5)) + 1e-9
    v = start + rng.integers(0, 5, count)
    stack.push_level(v, start, table)
    stack.settle()
    words, unused = stack.written()
    again = Stack.read(words, stack.initial, unused)
    assert np.array_equal(again.pop_level(start, table), v)
    assert np.array_equal(again.pop_normal(means[1] * 3, std), z)
    again.push_sampled(z, means[0], std)
    assert again.as_at_first()


def test_samples_of_the_stack_are_normal():
    """Though what lies on top was pushed by wrong probabilities."""
    stack, found = Stack.random(), []
    for _ in range(50):
        stack.push_normal(np.full(100, 30), np.zeros(100), 8.0)
        found.append(stack.pop_sampled(np.full(100, 0.3), 8.0))
    z = np.concatenate(found)
    assert abs(z.mean() - 0.3) < 4 * 8 / len(z) ** 0.5
    assert abs(z.std() - 8) < 4 * 8 / (2 * len(z)) ** 0.5


def test_no_word_is_random_twice():
    assert np.array_equal(random_words(50)[-20:], random_words(20))
    assert len(np.unique(random_words(1000))) == 1000


def test_the_length_is_that_of_the_bound_of_the_same_steps():
    """Within 2 %, first bits included, with the exact posteriors of a known law."""
    levels, steps = 16, 12
    law = torch.softmax(torch.linspace(0, 2, levels), 0)
    values = (2.0 * torch.arange(levels) + 1) / levels - 1
    schedule = Linear(-13.3 + 2 * math.log(256 / levels), 5.0)
    denoiser = Denoiser(lambda z, t, given: law.log().expand(*z.shape, levels), schedule, kinds.levels(values))
    generator = torch.Generator().manual_seed(0)
    v = torch.multinomial(law, 5000 * 12, True, generator=generator).reshape(5000, 12, 1)
    *_, coded = bits_back.encode(bits_back.chain(denoiser, levels, steps), v, 256)
    x = likelihood.encode_levels(v, levels)
    bound = likelihood.bits_per_dim(denoiser, x, levels, steps, steps, generator=generator, batch=1000)
    total, bits = bound.estimates()["total"], 32 * len(coded.words) / v.numel()
    assert total.bits_error < 0.005 * total.bits
    assert abs(bits / total.bits - 1) < 0.02
    assert 32 * (coded.initial - coded.unused) < 0.01 * bits * v.numel()


def test_other_numbers_of_the_network_are_noticed():
    model = small()
    v = images_to_variables(model, drawn(model, 20))
    *_, coded = bits_back.encode(chain_of(model, 5), v)
    other = small(seed=1)
    with pytest.raises((Uneven, FloatingPointError)):
        list(bits_back.decode(chain_of(other, 5), coded, (12, 1)))


def test_bad_values_and_steps_are_refused():
    model = small()
    with pytest.raises(ValueError, match="do not fit 17 levels"):
        next(bits_back.encode(chain_of(model, 5), images_to_variables(model, drawn(model, 2) + 1) + 16))
    with pytest.raises(ValueError, match="steps 0"):
        chain_of(model, 0)


@pytest.fixture
def written(tmp_path):
    model = small()
    images = drawn(model, 9)
    *_, coded = bits_back.encode(chain_of(model, 3), images_to_variables(model, images))
    archive.write(tmp_path / "a.bcz", model, images, coded)
    return model, images, coded, tmp_path / "a.bcz"


def test_a_file_holds_all_the_decoder_needs(written):
    model, images, coded, path = written
    header, again = archive.read(path)
    assert again.groups == coded.groups
    assert np.array_equal(again.words, coded.words)
    archive.fitting(path, header, model, "it")
    archive.confirm(path, header, images)
    with pytest.raises(InputError, match="do not come out as they went in"):
        archive.confirm(path, header, 16 - images)
    with pytest.raises(InputError, match="was coded with the model of fingerprint"):
        archive.fitting(path, header, small(seed=1), "it")


def test_any_byte_that_changes_and_any_cut_is_noticed(written):
    *_, path = written
    data = path.read_bytes()
    for at in {*range(0, 40), *range(40, len(data), 13), len(data) - 1}:
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(InputError, match=r"a\.bcz: "):
            archive.read(path)
        path.write_bytes(data[:at])
        with pytest.raises(InputError, match=r"a\.bcz: "):
            archive.read(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(InputError, match="something was appended"):
        archive.read(path)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_runs_are_the_groups(sizes):
    assert [size for size, times in archive.runs(tuple(sizes)) for _ in range(times)] == sizes
