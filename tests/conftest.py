"""Shapes are checked in every test: each annotation of becalm runs under beartype. What lacks an optional package is skipped."""

import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("becalm", "beartype.beartype")

SHARED = Path(__file__).resolve().parents[2] / "shared"

OPTIONAL = {
    *("laspy", "lazrs", "pye57", "lzf", "PIL", "skimage", "matplotlib", "constriction", "distributed"),
    *(
        "starlette",
        "uvicorn",
        "httpx",
        "playwright",
        "sklearn",
        "point_cloud_utils",
        "onnx",
        "onnxscript",
        "onnxruntime",
    ),
}
"""Packages of the extras, by the names by which they are imported."""


class OptionalFinder:
    """The last of Python's finders of modules: it finds none, and notes which optional packages were sought in vain."""

    sought: set[str]

    def __init__(self):
        self.sought = set()

    def find_spec(self, name, path=None, target=None):
        if name in OPTIONAL:
            self.sought.add(name)


FINDER = OptionalFinder()
sys.meta_path.append(FINDER)


def pytest_runtest_logstart():
    FINDER.sought.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails for want of an optional package is skipped, and says which."""
    report, error = (yield), call.excinfo.value if call.excinfo else None
    while error is not None:  # a fixture that failed before raises the same error again, without another import
        if isinstance(error, ModuleNotFoundError) and error.name in OPTIONAL:
            FINDER.sought.add(error.name)
        error = error.__cause__ or error.__context__
    return skipped(report, item.location[1] or 0)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """So is a file of tests that imports one at its head."""
    FINDER.sought.clear()
    return skipped((yield), 0)


def skipped(report, line: int):
    """The report of a failure as that of a skip, where optional packages were missing."""
    if report.failed and FINDER.sought:
        report.outcome = "skipped"
        report.longrepr = (report.nodeid.split("::")[0], line, f"Skipped: needs {', '.join(sorted(FINDER.sought))}")
    return report


@pytest.fixture(scope="session")
def shared():
    """A function from a path below the shared data to the file, which skips the test where it is missing."""

    def find(relative: str) -> Path:
        path = SHARED / relative
        if not path.exists():
            pytest.skip(f"needs {relative} of the shared data, which is not here")
        return path

    return find
