"""Batches computed ahead by worker processes, in order."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from becalm.training.distributed import step_numbers

Item = TypeVar("Item")


def prefetch(make: Callable[[int], Item], start: int, workers: int, ahead: int = 4) -> Iterator[Item]:
    """Yield make(start), make(start + 1), …, computed by `workers` processes, up to `ahead` items each in advance.

    Where several processes train together, the numbers are those of `step_numbers(start)`. With 0 workers items are computed in
    this process on demand. `make` must be importable by name.
    """
    if workers == 0:
        yield from map(make, step_numbers(start))
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        steps = step_numbers(start)
        waiting = deque(pool.submit(make, next(steps)) for _ in range(workers * ahead))
        try:
            while True:
                item = waiting.popleft().result()
                waiting.append(pool.submit(make, next(steps)))
                yield item
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
