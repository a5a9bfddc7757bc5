"""A task's progress on standard error."""

from collections.abc import Iterable
from typing import Any

from becalm.tasks.progress import Progress


def with_progress(reports: Iterable[Progress], label: str) -> Any:
    """Run a task to its end with a bar of its progress, and return its result."""
    from tqdm import tqdm

    with tqdm(total=100, desc=label, unit="%", disable=None) as bar:
        for report in reports:
            bar.update(int(100 * report.done) - bar.n)
    return report.result
