"""VDM: how many bits digits need, which image does not belong, and a compressed file of that length."""

import numpy as np

import becalm


def main(count: int = 16, steps: int = 50) -> None:
    """Measure and compress the last digits of scikit-learn and one image of noise."""
    from sklearn.datasets import load_digits

    digits = load_digits().images[-count:].astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 17, (1, 8, 8), dtype=np.uint8)
    images = np.concatenate([digits, noise])

    result = becalm.likelihood("digits8", images, steps=steps)
    print(result)
    print(f"the image that needs most bits is number {result.worst(1)[0]} (the noise is number {count})")

    data = becalm.compress("digits8", digits, steps=steps)
    assert np.array_equal(np.asarray(becalm.decompress("digits8", data)).reshape(digits.shape), digits)
    bits = 8 * len(data) / digits.size
    print(f"{len(data)} bytes for {digits.size} numbers: {bits:.2f} bits each, and every image came back exactly")


if __name__ == "__main__":
    main()
