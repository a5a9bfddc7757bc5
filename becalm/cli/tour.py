"""becalm tour: what becalm does, computed here and explained on one page."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Tour:
    """See in five minutes what becalm does: it cleans, solves, makes, measures and samples, and explains it on one page."""

    output: Annotated[Path, tyro.conf.arg(aliases=("-o",))] = Path("becalm-tour.html")
    """The page, one HTML file that holds everything."""
    open: bool = True
    """Open the page in the browser."""
    seed: int = 0
    """Decides every random draw."""
    force: bool = False
    """Replace a file that exists."""
    json: bool = False
    """Print one JSON object in place of the summary."""

    def run(self) -> None:
        """Do the five jobs, write the page, open it."""
        import PIL.Image  # the pictures need it: say so before the work, not after  # noqa: F401
        from tqdm import tqdm

        from becalm.core.files import InputError, check_outputs
        from becalm.tasks.tour import STOPS, steps

        if self.output.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"{self.output}: is an HTML page; give a name that ends in .html")
        check_outputs((self.output,), (), self.force)
        bars: list[tqdm] = []
        for report in steps(self.seed):
            number, title, share = report.state
            if number == len(bars):
                form = "{desc:<34}{n:3.0f}%|{bar}| {elapsed}"
                bars.append(
                    tqdm(desc=f"{number + 1} of {len(STOPS)}  {title}", total=100, disable=None, bar_format=form)
                )
            bars[number].update(100 * share - bars[number].n)
            if share == 1:
                bars[number].close()
        report.result.save(self.output)
        print(json.dumps(self.summary(report.result)) if self.json else self.output)
        if self.open:
            import webbrowser

            webbrowser.open(self.output.resolve().as_uri())

    def summary(self, tour) -> dict:
        """The figures of all jobs."""
        jobs = {stop.title: {**stop.facts, "seconds": round(stop.seconds, 2)} for stop in tour.stops}
        return {"output": str(self.output), "jobs": jobs}
