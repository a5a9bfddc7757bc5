"""A real server and a real browser, for `make test-browser`; skipped with a reason where something is missing."""

import os
import shutil
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest

from becalm.points.cloud import Cloud
from becalm.points.formats import write

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SECONDS = 240
"""How long anything may take, on a machine that is busy with other work."""


class Page(NamedTuple):
    """A page that was opened in the browser."""

    tab: object
    """Playwright's page."""
    requests: list
    """Addresses of all requests it made."""
    errors: list
    """What its script had to complain about."""


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium that draws in software."""
    if os.environ.get("BECALM_BROWSER") != "1":
        pytest.skip("run by make test-browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def scan(tmp_path_factory):
    """A noisy step of 6000 points as a PLY file, at the coordinates of a map."""
    random = np.random.default_rng(0)
    ground = np.column_stack([random.uniform(-2, 2, (3000, 2)), np.zeros(3000)])
    wall = np.column_stack([random.uniform(-2, 2, 3000), np.ones(3000), random.uniform(0, 2, 3000)])
    xyz = np.concatenate([ground, wall]) + random.normal(0, 0.02, (6000, 3)) + [4.5e5, 5.4e6, 300]
    path = tmp_path_factory.mktemp("scan") / "step.ply"
    write(Cloud(xyz, {"intensity": random.random(6000).astype(np.float32)}), path)
    return path


@pytest.fixture(scope="session")
def address(browser):
    """The address of a server, with its token."""
    words = [sys.executable, "-m", "becalm", "serve", "--port", "0", "--upload", "0.001"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture
def open_page(browser, address):
    """A function that opens the page in a browser of its own; at the end no request has left this computer."""
    contexts, pages = [], []

    def open_tab(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(1000 * SECONDS)
        page = Page(context.new_page(), [], [])
        page.tab.on("request", lambda request: page.requests.append(request.url))
        page.tab.on("pageerror", lambda error: page.errors.append(str(error)))
        contexts.append(context)
        pages.append(page)
        page.tab.goto(address)
        page.tab.wait_for_selector("#kinds:not(:empty)")
        return page

    yield open_tab
    for context in contexts:
        context.close()
    host = "http://" + address.split("/")[2] + "/"
    for page in pages:
        assert page.errors == []
        assert [url for url in page.requests if not url.startswith((host, "blob:" + host))] == []


@pytest.fixture(scope="session")
def cleaned(browser, address, scan):
    """The number of a job that has cleaned the scan, dropped onto the page in a tab of its own."""
    context = browser.new_context()
    context.set_default_timeout(1000 * SECONDS)
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector("#kinds:not(:empty)")
    data = tab.evaluate_handle(
        "([name, bytes]) => { const all = new DataTransfer();"
        " all.items.add(new File([new Uint8Array(bytes)], name)); return all; }",
        [scan.name, list(scan.read_bytes())],
    )
    tab.dispatch_event("#drop", "drop", {"dataTransfer": data})
    tab.wait_for_selector("#download:not([hidden])")
    (number,) = tab.evaluate("JSON.parse(sessionStorage.getItem('becalm'))")
    context.close()
    return number


@pytest.fixture
def open_cleaned(open_page, cleaned):
    """A function that opens the page with the cleaned scan on it."""

    def open_tab(**settings):
        page = open_page(**settings)
        page.tab.evaluate("number => sessionStorage.setItem('becalm', JSON.stringify([number]))", cleaned)
        page.tab.reload()
        page.tab.wait_for_selector("#sliders:not([hidden])")
        page.tab.wait_for_timeout(600)
        return page

    return open_tab
