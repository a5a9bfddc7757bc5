"""The codec: every image comes back bit for bit, at the length of the bound."""

import json
import lzma
import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.compression import archive, bits_back
from becalm.compression.ans import AnsStack, DecodingError, initial_words
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


def random_images(model, count, seed=0):
    shape = (count, *model.shape)
    return torch.randint(model.levels, shape, generator=torch.Generator().manual_seed(seed))


def codec_of(model, steps):
    return bits_back.make_codec(model.denoiser, model.levels, steps, model.start)


def there_and_back(model, images, steps, batch=64):
    codec, v = codec_of(model, steps), images_to_variables(model, images)
    *_, bits = bits_back.encode(codec, v, batch)
    assert bits.count == len(v) == bits.plain + sum(bits.batches)
    return torch.cat(list(bits_back.decode(codec, bits, (v.shape[1], v.shape[2])))[::-1]).equal(v), bits


@pytest.mark.parametrize("levels", [2, 17, 256, 1000])
@pytest.mark.parametrize("colours", [1, 3])
def test_every_image_comes_back(levels, colours):
    model = small(levels, colours)
    for count, steps, batch in ((1, 1, 1), (60, 6, 8)):
        right, bits = there_and_back(model, random_images(model, count), steps, batch)
        assert right
        assert max(bits.batches, default=0) <= batch
        assert bits.plain == 1 if count == 1 else 0 < bits.plain < 60
        assert bits.n_initial == bits.n_unused, "the bits of the first images suffice for the next one"


@pytest.mark.parametrize("head", ["levels", "eps", "v", "x"])
@pytest.mark.parametrize(("network", "schedule"), [("mlp", "linear"), ("mlp", "learned"), ("flat", "linear")])
def test_every_kind_of_model_codes(head, network, schedule):
    torch.manual_seed(1)
    parts = NetworkConfig(network, {"width": 8, "depth": 1}), NoiseConfig(schedule, gamma_min=-8.0)
    model = VDM([4, 4, 1], 16, head, *parts).eval()
    assert there_and_back(model, random_images(model, 40), 4)[0]


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.5, 3.0, 8.0, 700.0]), st.floats(0, 1e5))
@settings(max_examples=40, deadline=None)
def test_a_stack_gives_back_what_it_took(seed, count, std, far):
    rng = np.random.default_rng(seed)
    stack, means = AnsStack.fresh(), rng.normal(size=(2, count)) * far
    z = stack.pop_samples(means[0], std)
    stack.push_gaussian(z, means[1] * 3, std)
    start, table = rng.integers(0, 9, count), rng.random((count, 5)) + 1e-9
    v = start + rng.integers(0, 5, count)
    stack.push_categorical(v, start, table)
    stack.unload_words()
    words, n_unused = stack.message()
    again = AnsStack.from_message(words, stack.n_initial, n_unused)
    assert np.array_equal(again.pop_categorical(start, table), v)
    assert np.array_equal(again.pop_gaussian(means[1] * 3, std), z)
    again.push_samples(z, means[0], std)
    assert len(again.first_words()) == 0


def test_samples_of_the_stack_are_normal():
    """Though what lies on top was pushed by wrong probabilities."""
    stack, found = AnsStack.fresh(), []
    for _ in range(50):
        stack.push_gaussian(np.full(100, 30), np.zeros(100), 8.0)
        found.append(stack.pop_samples(np.full(100, 0.3), 8.0))
    z = np.concatenate(found)
    assert abs(z.mean() - 0.3) < 4 * 8 / len(z) ** 0.5
    assert abs(z.std() - 8) < 4 * 8 / (2 * len(z)) ** 0.5


def test_no_word_is_random_twice():
    assert np.array_equal(initial_words(50)[-20:], initial_words(20))
    assert len(np.unique(initial_words(1000))) == 1000


def test_the_length_is_that_of_the_bound_of_the_same_steps():
    """Within 2 %, first bits included, with the exact posteriors of a known law."""
    levels, steps = 16, 12
    law = torch.softmax(torch.linspace(0, 2, levels), 0)
    values = (2.0 * torch.arange(levels) + 1) / levels - 1
    schedule = Linear(-13.3 + 2 * math.log(256 / levels), 5.0)
    denoiser = Denoiser(lambda z, t, given: law.log().expand(*z.shape, levels), schedule, kinds.levels(values))
    generator = torch.Generator().manual_seed(0)
    v = torch.multinomial(law, 5000 * 12, True, generator=generator).reshape(5000, 12, 1)
    *_, bits = bits_back.encode(bits_back.make_codec(denoiser, levels, steps), v, 256)
    x = likelihood.encode_levels(v, levels)
    bound = likelihood.bits_per_dim(denoiser, x, levels, steps, steps, generator=generator, batch=1000)
    total, length = bound.estimates()["total"], 32 * len(bits.words) / v.numel()
    assert total.bits_error < 0.005 * total.bits
    assert abs(length / total.bits - 1) < 0.02


def test_few_images_take_no_more_than_lzma():
    model = small(levels=256)
    images = random_images(model, 3) // 64
    *_, bits = bits_back.encode(codec_of(model, 5), images_to_variables(model, images))
    packed = lzma.compress(bits_back.image_bytes(images, 256), lzma.FORMAT_RAW, filters=bits_back.LZMA)
    assert bits.plain == 3 and bits.batches == ()
    assert 0 <= 4 * len(bits.words) - len(packed) < 8


def test_first_images_that_are_damaged_are_noticed():
    first = torch.arange(24).reshape(2, 12, 1) % 17
    plain, words = bits_back.compress_first(first, 17, 1000)
    assert plain == 2 and torch.equal(bits_back.decompress_first(words, (2, 12, 1), 17), first)
    for wrong in (words[:-1], words[2:], np.append(words[:-1], 2).astype(np.uint32)):
        with pytest.raises(DecodingError):
            bits_back.decompress_first(wrong, (2, 12, 1), 17)
    with pytest.raises(DecodingError):
        bits_back.decompress_first(words, (2, 12, 1), 5)
    with pytest.raises(DecodingError):
        bits_back.decompress_first(words, (3, 12, 1), 17)


def test_other_numbers_of_the_network_are_noticed():
    model = small()
    v = images_to_variables(model, random_images(model, 60))
    *_, bits = bits_back.encode(codec_of(model, 5), v)
    other = small(seed=1)
    with pytest.raises((DecodingError, FloatingPointError)):
        list(bits_back.decode(codec_of(other, 5), bits, (12, 1)))


def test_bad_values_and_steps_are_refused():
    model = small()
    with pytest.raises(ValueError, match="do not fit 17 levels"):
        next(bits_back.encode(codec_of(model, 5), images_to_variables(model, random_images(model, 2) + 1) + 16))
    with pytest.raises(ValueError, match="steps 0"):
        codec_of(model, 0)


@pytest.fixture
def written(tmp_path):
    model = small()
    images = random_images(model, 40)
    *_, bits = bits_back.encode(codec_of(model, 3), images_to_variables(model, images))
    (tmp_path / "a.bcz").write_bytes(archive.pack(model, images, bits))
    return model, images, bits, tmp_path / "a.bcz"


def test_the_weights_of_levels_are_the_density_of_the_bottom_latent():
    """p(x|z₀) ∝ exp(−½e^{−γ₀}(z₀/α₀ − x)²): level k of K stands for x = (2k + 1)/K − 1."""
    layer = bits_back.Layer(t=0.0, bin_width=0.02, q_factor=0.9, q_std=1.0, p_std=1.0)
    codec = bits_back.Codec(Denoiser(torch.nn.Identity(), Linear(), kinds.eps), 17, 0.3, (layer,), torch.device("cpu"))
    first, weights = bits_back.decoder_weights(codec, np.array([-20.0, 3.0, 31.0]))
    y, x = np.array([-20.0, 3.0, 31.0])[:, None] * 0.02 / 0.9, (2 * np.arange(17) + 1) / 17 - 1
    density = np.exp(-((y - x) ** 2) / (2 * 0.3**2))
    assert (first == 0).all()
    np.testing.assert_allclose(weights, density / density.max(1, keepdims=True), rtol=1e-12)


def test_a_file_holds_all_the_decoder_needs(written):
    model, images, bits, path = written
    header, again = archive.unpack(archive.read(path), path)
    assert again.batches == bits.batches
    assert np.array_equal(again.words, bits.words)
    archive.check_model(path, header, model, "it")
    archive.check_images(path, header, images)
    with pytest.raises(InputError, match="do not come out as they went in"):
        archive.check_images(path, header, 16 - images)
    with pytest.raises(InputError, match="was coded with the model of fingerprint"):
        archive.check_model(path, header, small(seed=1), "it")


def test_files_of_version_1_are_read(written, monkeypatch):
    model, images, _, path = written
    monkeypatch.setattr(bits_back, "compress_first", lambda v, levels, least: (0, None))
    *_, bits = bits_back.encode(codec_of(model, 3), images_to_variables(model, images))
    data = archive.pack(model, images, bits)
    length = int.from_bytes(data[10:14], "little")
    fields = json.loads(zlib.decompress(data[18 : 18 + length]))
    assert fields.pop("plain") == 0
    header = zlib.compress(json.dumps(fields).encode())
    path.write_bytes(
        archive.MAGIC + struct.pack("<HII", 1, len(header), zlib.crc32(header)) + header + data[18 + length :]
    )
    _, again = archive.unpack(archive.read(path), path)
    decoded = torch.cat(list(bits_back.decode(codec_of(model, 3), again, (12, 1)))[::-1])
    assert torch.equal(decoded, images_to_variables(model, images))


@pytest.mark.parametrize("plain", [-1, 1000, True])
def test_a_header_that_cannot_be_is_refused(written, plain):
    header, _ = archive.unpack(archive.read(written[3]), written[3])
    assert archive.header_fault(header) == ""
    assert "plain" in archive.header_fault(replace(header, plain=plain))
    assert "do not add up" in archive.header_fault(replace(header, plain=header.plain - 1))


def test_any_byte_that_changes_and_any_cut_is_noticed(written):
    *_, path = written
    data = path.read_bytes()
    for at in {*range(0, 40), *range(40, len(data), 13), len(data) - 1}:
        path.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        with pytest.raises(InputError, match=r"a\.bcz: "):
            archive.unpack(archive.read(path), path)
        path.write_bytes(data[:at])
        with pytest.raises(InputError, match=r"a\.bcz: "):
            archive.unpack(archive.read(path), path)
    path.write_bytes(data + b"\0")
    with pytest.raises(InputError, match="something was appended"):
        archive.unpack(archive.read(path), path)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=30))
def test_runs_are_the_groups(sizes):
    assert [size for size, times in archive.run_lengths(tuple(sizes)) for _ in range(times)] == sizes
