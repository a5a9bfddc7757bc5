"""The built documentation in Chromium, where `make docs` has made it: it asks nobody else, fits, and is accessible."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.docs.pages import ROOT
from tests.page.browser.test_browser import AXE, accessibility_faults

SITE = ROOT / "site"
SOME = ("index", "process", "clouds", "shapes", "models/jets", "api/core")


class Silent(SimpleHTTPRequestHandler):
    """Serves files and does not write a log."""

    def log_message(self, *words):
        """Say nothing."""


@pytest.fixture(scope="module")
def site():
    """The address of the built site."""
    if not (SITE / "index.html").is_file():
        pytest.skip("needs the built site: make docs")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(SITE))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_documentation_stands_alone_and_fits(browser, site, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(120_000)
    tab, requests, errors = context.new_page(), [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    for name in SOME:
        tab.goto(f"{site}{name}.html")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        if AXE.is_file():
            assert accessibility_faults(Tab(tab)) == [], name
    assert tab.goto(f"{site}process.html") and tab.locator("math").count() > 100
    context.close()
    assert errors == [] and [url for url in requests if not url.startswith((site, f"blob:{site}"))] == []


class Tab:
    """What `accessibility_faults` looks at."""

    def __init__(self, tab):
        self.tab = tab
