"""Fourier features: the reference's numbers, what each frequency reads, and no digits lost in single precision."""

import numpy as np
import torch

from becalm.core.likelihood import encode_levels
from becalm.nets.fourier import fourier_features, fourier_frequencies


def test_the_reference_s_features(shared):
    file = np.load(shared("vectors/vdm.npz"))
    first, stop = file["fourier_start_stop"]
    multiples = tuple(float(2 ** (n + 1)) for n in range(first, stop))
    assert multiples == fourier_frequencies(256)
    found = fourier_features(torch.tensor(file["fourier_input"]), multiples)
    torch.testing.assert_close(found, torch.tensor(file["fourier_output"]), rtol=0, atol=1e-10)


def test_the_first_frequency_reads_the_last_bit_and_the_second_nothing_of_clean_data():
    for levels in (2, 17, 256):
        x = encode_levels(torch.arange(levels), levels, torch.float64)[:, None]
        sine, still, cosine, flat = fourier_features(x, fourier_frequencies(levels)).T
        turned = torch.stack([sine, cosine])
        torch.testing.assert_close(turned[:, 1:], -turned[:, :-1], rtol=0, atol=1e-9)
        torch.testing.assert_close(torch.stack([still, flat]).std(1), torch.zeros(2).double(), rtol=0, atol=1e-9)


def test_single_precision_loses_nothing_of_the_phase():
    z = torch.linspace(-4, 4, 10_001)[:, None]
    torch.testing.assert_close(
        fourier_features(z, (128.0, 256.0)), fourier_features(z.double(), (128.0, 256.0)).float(), rtol=0, atol=1e-6
    )
    assert fourier_features(z.bfloat16(), (128.0,)).dtype == torch.float32
