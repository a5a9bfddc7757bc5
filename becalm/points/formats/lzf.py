"""LZF, the compression inside binary_compressed PCD files (Marc Lehmann, liblzf): literals and references back.

A control byte c < 32 is followed by c + 1 literals. Any other says: copy (c >> 5) + 2 bytes (a following byte adds
to a length of 9) from ((c & 31) << 8) + the next byte + 1 positions back.
"""

import numpy as np

EXPANSION = 88
"""Three bytes of LZF decompress to at most 264; a file that promises more is damaged."""


def decompress(packed: bytes, size: int) -> bytes:
    """Decompress to `size` bytes, by a loop over tokens. Raises ValueError for damaged data."""
    if size > EXPANSION * len(packed):
        raise ValueError(f"{len(packed):,} bytes of LZF cannot hold {size:,}")
    out = bytearray(size)
    here = done = 0
    stop = len(packed)
    try:
        while here < stop:
            control = packed[here]
            if control < 32:
                here += 1
                length = control + 1
                if here + length > stop or done + length > size:
                    raise ValueError("LZF literals run past the end")
                out[done : done + length] = packed[here : here + length]
                here += length
            else:
                length = (control >> 5) + 2
                if length == 9:
                    here += 1
                    length += packed[here]
                back = ((control & 31) << 8) + packed[here + 1] + 1
                here += 2
                if back > done or done + length > size:
                    raise ValueError("LZF refers outside the data")
                begin = done - back
                if back >= length:
                    out[done : done + length] = out[begin : begin + length]
                else:
                    out[done : done + length] = (out[begin:done] * (length // back + 1))[:length]
            done += length
    except IndexError:
        raise ValueError("LZF ends inside a token") from None
    if done != size:
        raise ValueError(f"LZF holds {done:,} bytes, {size:,} were promised")
    return bytes(out)


def compress(data: bytes) -> bytes:
    """Valid LZF made of literals only: 3 % longer than the data, without a loop over bytes."""
    letters = np.frombuffer(data, np.uint8)
    whole = len(letters) // 32 * 32
    runs = np.empty((whole // 32, 33), np.uint8)
    runs[:, 0] = 31
    runs[:, 1:] = letters[:whole].reshape(-1, 32)
    rest = data[whole:]
    return runs.tobytes() + (bytes([len(rest) - 1]) + rest if rest else b"")
