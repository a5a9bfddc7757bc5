"""LZF against a decoder that copies byte by byte."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from becalm.points.formats import lzf


def slow(packed: bytes) -> bytes:
    out, here = bytearray(), 0
    while here < len(packed):
        control = packed[here]
        here += 1
        if control < 32:
            out += packed[here : here + control + 1]
            here += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += packed[here]
            here += 1
        back = ((control & 31) << 8) + packed[here] + 1
        here += 1
        for _ in range(length + 2):
            out.append(out[-back])
    return bytes(out)


@st.composite
def streams(draw) -> bytes:
    """Valid LZF: literals, and references to what is there already."""
    packed, size = bytearray(), 0
    for _ in range(draw(st.integers(1, 20))):
        if size == 0 or draw(st.booleans()):
            literals = draw(st.binary(min_size=1, max_size=32))
            packed += bytes([len(literals) - 1]) + literals
            size += len(literals)
        else:
            back, length = draw(st.integers(1, min(size, 8192))) - 1, draw(st.integers(1, 262))
            packed += bytes([(min(length, 7) << 5) + (back >> 8)])
            packed += bytes([length - 7]) if length >= 7 else b""
            packed.append(back & 255)
            size += length + 2
    return bytes(packed)


@given(streams())
@settings(max_examples=200, deadline=None)
def test_the_fast_decoder_is_the_slow_one(packed):
    expected = slow(packed)
    assert lzf.decompress(packed, len(expected)) == expected
    with pytest.raises(ValueError, match="LZF"):
        lzf.decompress(packed, len(expected) + 1)


@given(st.binary(max_size=300))
def test_literals_come_back(data):
    assert lzf.decompress(lzf.compress(data), len(data)) == data


@given(st.binary(max_size=100), st.integers(0, 5000))
def test_any_bytes_decode_or_are_refused(packed, size):
    try:
        assert len(lzf.decompress(packed, size)) == size
    except ValueError as error:
        assert "LZF" in str(error)  # noqa: PT017


def test_a_promise_beyond_the_format_is_refused_before_allocating():
    with pytest.raises(ValueError, match="cannot hold"):
        lzf.decompress(np.zeros(3, np.uint8).tobytes(), 1 << 40)
