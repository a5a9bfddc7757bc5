"""The tour: its data, its page, and the order of its reports."""

import re

import numpy as np
import pytest

from becalm.tasks import tour
from becalm.tasks.tour_page import tour_html


def quick_job(seed):
    """A job that takes no time."""
    yield tour.Progress(0.5)
    facts = {"a <b>": f"{seed} & more"}
    yield tour.Progress(1.0, None, ("A paragraph.", "becalm info", facts, b"\x89PNG", "It's a picture"))


@pytest.fixture
def quick_stops(monkeypatch):
    monkeypatch.setattr(tour, "STOPS", {"First": quick_job, "Second": quick_job})


def test_reports_name_the_job_and_rise(quick_stops):
    reports = list(tour.steps(5))
    assert [report.state[:2] for report in reports[:-1]] == [(0, "First")] * 3 + [(1, "Second")] * 3
    done = [report.done for report in reports]
    assert done == sorted(done) and done[-1] == 1
    assert [stop.title for stop in reports[-1].result.stops] == ["First", "Second"]


def test_the_page_holds_everything_and_loads_nothing(quick_stops, tmp_path):
    html = tour.tour(5).save(tmp_path / "tour.html").read_text(encoding="utf-8")
    assert html.count("<section") == 2 and "a &lt;b&gt;" in html and "5 &amp; more" in html
    assert not re.search(r"<script|<link|https?:|src='(?!data:)", html)
    assert html.count("alt='It&#x27;s a picture'") == 2
    assert "<img" not in tour_html([tour.Stop("T", "text", "code", {}, b"", "none")])


def test_the_puzzle_has_a_cell_for_each_sign():
    image, mask, digits = tour.draw_puzzle("1..2............")
    assert image.shape == (112, 112) and mask.sum() == 14 and digits == ("1,1=1", "1,4=2")
    cells = image.reshape(4, 28, 4, 28).max((1, 3))
    assert ((cells > 0.9) == (mask == 0)).all() and not np.isnan(image).any()


def test_samples_of_the_energy_are_near_the_truth():
    *_, last = tour.sample_energy(0)
    _, _, facts, picture, _ = last.result
    assert picture.startswith(b"\x89PNG")
    assert float(facts["median distance to the nearest of 4,000 true samples"]) < 0.05
