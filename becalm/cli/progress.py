"""A task's progress on standard error."""

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from becalm.tasks.progress import Progress


def with_progress(reports: Iterable[Progress], label: str) -> Any:
    """Run a task to its end with a bar of its progress, and return its result."""
    from tqdm import tqdm

    with tqdm(total=100, desc=label, unit="%", disable=None) as bar:
        for report in reports:
            bar.update(int(100 * report.done) - bar.n)
    return report.result


@contextmanager
def heartbeat(status: list[str], every: float = 10.0) -> Iterator[None]:
    """While the block runs, print the last of `status` and the seconds passed on standard error, at once and every ten seconds.

    The block appends to `status` what it has done.
    """
    started, ended = time.time(), threading.Event()

    def beat() -> None:
        while not ended.wait(every):
            print(f"{status[-1]}, {time.time() - started:.0f} s", file=sys.stderr, flush=True)

    print(status[-1], file=sys.stderr, flush=True)
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
