"""How fast the page is in headless Chromium that draws in software: cold start, frames a second, size.

    python benchmarks/page.py [--points 100000 200000]

Needs playwright and Chromium. Frames are also given per CPU-second of the browser, which other work on the machine changes less.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import psutil
import torch

from becalm.core import trajectory

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
EXTRA = ("starlette", "uvicorn", "anyio", "click", "h11", "idna")
"""Packages that the extra `page` may add to an install."""

MOVE = """(seconds) => new Promise((resolve) => {
  const slider = document.querySelector("#time"), start = performance.now(), first = becalm.frames;
  let least = Infinity;
  const next = (now) => {
    slider.value = slider.max * (0.5 + 0.5 * Math.sin((now - start) / 300));
    slider.dispatchEvent(new Event("input"));
    least = Math.min(least, becalm.drawn);
    if (now - start < 1000 * seconds) requestAnimationFrame(next);
    else resolve({ frames: becalm.frames - first, seconds: (now - start) / 1000, drawn: least });
  };
  requestAnimationFrame(next);
})"""
"""Moves the slider of the denoising at every frame, and counts frames that are drawn."""


def write_run(path: Path, points: int) -> None:
    """A run of so many points on a wavy ground, with noise that becomes less."""
    random = np.random.default_rng(0)
    ground = random.uniform(-5, 5, (points, 2))
    clean = np.column_stack([ground, np.sin(ground[:, 0]) * np.cos(ground[:, 1])])
    noise = random.normal(0, 0.03, clean.shape)
    z = torch.tensor(np.stack([clean + noise * share for share in (1, 0.5, 0)]), dtype=torch.float32)[:, None]
    t = torch.tensor([0.5, 0.25, 0.0])[:, None, None, None].repeat(1, 1, points, 1)
    trajectory.write(trajectory.Trajectory(z, t, z.clone(), {}), path)


@contextmanager
def serving(file: Path) -> Iterator[tuple[str, float]]:
    """The address of `becalm view FILE`, and the seconds after which it was printed."""
    words = [sys.executable, "-m", "becalm", "view", "--no-browser", str(file)]
    start = time.monotonic()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = server.stdout.readline().strip()
        try:
            yield address, time.monotonic() - start
        finally:
            server.terminate()


def cpu_seconds() -> float:
    """CPU time of this process' children so far, the browser's among them."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True) if "chrom" in child.name()]
    return sum(t.user + t.system for t in times)


def wait_for_picture(tab) -> None:
    """Return when a cloud is drawn; the page's policy lets nothing wait for it inside the page. Raises TimeoutError."""
    start = time.monotonic()
    while not tab.evaluate("Boolean(window.becalm?.cloud && becalm.frames)"):
        if time.monotonic() - start > 90:
            raise TimeoutError(tab.text_content("#panel-scan"))
        time.sleep(0.02)


def measure(browser, file: Path) -> dict:
    """Seconds until a finished scan is drawn in a page opened for the first time, and frames while the slider moves."""
    with serving(file) as (address, served):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        tab = context.new_page()
        tab.goto(address)
        wait_for_picture(tab)  # the job is done
        context.close()
        fresh = browser.new_context(viewport={"width": 1280, "height": 800})
        tab, start, used = fresh.new_page(), time.monotonic(), cpu_seconds()
        tab.goto(address)
        wait_for_picture(tab)
        opened, cost = time.monotonic() - start, cpu_seconds() - used
        tab.wait_for_timeout(1000)
        used = cpu_seconds()
        moving = tab.evaluate(MOVE, 5)
        used = cpu_seconds() - used
        fresh.close()
    return {
        "server_ready_s": round(served, 2),
        "page_drawn_s": round(opened, 2),
        "page_drawn_cpu_s": round(cost, 2),
        "frames_per_s": round(moving["frames"] / moving["seconds"], 1),
        "frames_per_cpu_s": round(moving["frames"] / used, 1),
        "points_per_frame": moving["drawn"],
    }


def sizes() -> dict:
    """Bytes of the page, and of the installed packages of the extra `page`."""
    static = Path(trajectory.__file__).parents[1] / "page" / "static"
    page = sum(path.stat().st_size for path in static.iterdir())
    added = {}
    for name in EXTRA:
        files = distribution(name).files or []
        added[name] = sum(path.stat().st_size for file in files if (path := Path(str(file.locate()))).is_file())
    return {"page_bytes": page, "installed_bytes": sum(added.values()), "packages": added}


def main() -> None:
    """Print a line of JSON for each measurement."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[100_000, 200_000])
    asked = parser.parse_args()
    print(json.dumps(sizes()))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        for points in asked.points:
            file = Path(folder) / f"{points}.safetensors"
            write_run(file, points)
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            print(json.dumps({"points": points} | measure(browser, file)), flush=True)
            browser.close()


if __name__ == "__main__":
    main()
