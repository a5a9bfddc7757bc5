"""A scan in a notebook: the widget holds what the page would draw, and is drawn by the page's script."""

import json
import struct

import numpy as np
import pytest

from becalm.core.files import InputError
from becalm.page import notebook
from becalm.page.server import STATIC
from becalm.tasks.denoise import denoise
from becalm.tasks.shapes import Shapes


def read_header(bundle):
    """Arrays' shapes and the facts of a bundle."""
    (size,) = struct.unpack("<Q", bundle[:8])
    header = json.loads(bundle[8 : 8 + size])
    facts = json.loads(header.pop("__metadata__")["becalm.page"])
    return {name: entry["shape"] for name, entry in header.items()}, facts


@pytest.fixture(scope="module")
def plane():
    random = np.random.default_rng(0)
    return np.column_stack([random.uniform(0, 1, (600, 2)), random.normal(0, 0.02, 600)])


def test_a_result_is_shown_before_and_after_with_its_columns(plane):
    shapes, facts = read_header(notebook.scan_bundle(denoise(plane)))
    assert shapes["xyz"] == [2, 600, 3] and {"displacement", "noise", "confidence"} <= set(shapes)
    assert facts["points"] == 600


def test_a_cloud_is_shown_alone_and_large_ones_in_part(plane, monkeypatch):
    monkeypatch.setattr(notebook, "MOST_SENT", 100)
    shapes, facts = read_header(notebook.scan_bundle(plane))
    assert shapes["xyz"] == [1, 100, 3] and facts["measured"] == 600


def test_other_results_are_told_how_to_be_shown():
    with pytest.raises(InputError, match="a Shapes shows its own picture"):
        notebook.scan_bundle(Shapes(np.zeros((1, 9, 3))))


def test_the_widget_is_the_script_of_the_page(plane):
    pytest.importorskip("anywidget", reason="needs the extra notebook")
    widget = notebook.view(plane, height=300)
    assert widget.height == 300 and widget.bundle == notebook.scan_bundle(plane)
    assert widget._esm == (STATIC / "page.js").read_text(encoding="utf-8") and "as default" in widget._esm
