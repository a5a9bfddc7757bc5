"""LION: generate chairs, keep the lower half of one and complete it anew, and interpolate between two of them."""

import numpy as np

import becalm
from becalm.core.sampler import Sampler


def main(points: int = 2048, steps: int = 25) -> None:
    """Write folders of PLY files and print the extent of every shape."""
    sampler = Sampler(steps=steps)
    chairs = becalm.generate("lion_families", 2, label="chair", points=points, sampler=sampler)
    first, second = chairs.points
    lower = first[first[:, 1] < np.median(first[:, 1])]
    results = {
        "chairs": chairs,
        "completed": becalm.complete(
            "lion_families", lower, number=2, label="chair", share=0.5, points=points, sampler=sampler
        ),
        "between": becalm.interpolate("lion_families", first, second, number=3, points=points, sampler=sampler),
    }
    for folder, result in results.items():
        result.save(folder)
        sizes = np.ptp(result.points, axis=1)
        print(f"{folder}: {len(result)} shapes of {result.points.shape[1]} points; width, height, depth:")
        print(sizes.round(2))


if __name__ == "__main__":
    main()
