"""The page in Chromium: a scan dropped, looked at, cut, measured and downloaded; what is wrong with files; accessibility."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.docs.files import draw_page, example, photograph_of

PUZZLES = Path(__file__).parents[3] / "examples" / "puzzles"
AXE = Path(__file__).parents[3] / "web" / "node_modules" / "axe-core" / "axe.min.js"


def pixels(page, selector="#view"):
    """A digest of what an element looks like."""
    page.tab.wait_for_timeout(500)
    return hashlib.sha256(page.tab.locator(selector).screenshot()).hexdigest()


def set_slider(page, selector, value):
    page.tab.locator(selector).evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", value
    )


def go_to(page, name):
    """Open a tab of the page."""
    page.tab.click(f"nav a[href='#{name}']")
    page.tab.wait_for_selector(f"#panel-{name}:not([hidden])")


def accessibility_faults(page):
    """What axe-core finds serious, where it is installed."""
    if not AXE.is_file():
        return []
    page.tab.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.tab.evaluate("axe.run().then(({violations}) => violations)")
    return [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]


def test_the_sliders_change_the_picture(open_cleaned):
    page = open_cleaned()
    assert page.tab.locator("#facts td").first.text_content() == "6,000"
    done = pixels(page)
    set_slider(page, "#time", 0)
    begun = pixels(page)
    assert begun != done and page.tab.locator("#step").text_content() == "not begun"
    set_slider(page, "#time", 0.5)
    assert pixels(page) not in (begun, done)
    set_slider(page, "#time", page.tab.locator("#time").get_attribute("max"))
    assert pixels(page) == done
    set_slider(page, "#swipe", 100)
    assert pixels(page) != done


def test_nothing_stays_of_earlier_pictures(open_cleaned):
    page = open_cleaned()
    page.tab.click("#fit")
    first = pixels(page)
    page.tab.locator("#canvas").focus()
    for key in ("ArrowLeft", "-", "ArrowUp"):
        page.tab.keyboard.press(key)
        page.tab.wait_for_timeout(300)
    page.tab.click("#fit")
    page.tab.mouse.move(0, 0)
    assert pixels(page) == first


def test_a_scan_a_thousand_times_as_large_is_seen_after_a_small_one(open_cleaned):
    page = open_cleaned()
    page.tab.evaluate(
        """() => {
            const { cloud } = becalm, states = cloud.states.map((state) => state.map((x) => 1000 * x));
            becalm.show({ ...cloud, states }, new Uint8Array(3 * cloud.points).fill(90), false);
        }"""
    )
    small = pixels(page)
    set_slider(page, "#size", 8)
    assert pixels(page) != small


def test_colours_change_the_picture(open_cleaned):
    page = open_cleaned()
    values = page.tab.eval_on_selector_all("#colour option", "options => options.map(({value}) => value)")
    assert {"height", "intensity", "displacement", "noise", "confidence", "surface"} <= set(values)
    looks = set()
    for value in ("height", "intensity", "displacement"):
        page.tab.select_option("#colour", value)
        looks.add(pixels(page))
    assert len(looks) == 3


def test_two_clicks_cut_and_two_clicks_measure(open_cleaned):
    page = open_cleaned()
    box = page.tab.locator("#canvas").bounding_box()
    page.tab.click("#section")
    for share in (0.35, 0.65):
        page.tab.mouse.click(box["x"] + share * box["width"], box["y"] + 0.55 * box["height"])
    page.tab.wait_for_selector("#cut:not([hidden])")
    for part in ("before", "after"):
        text = page.tab.locator(f"#cut-{part}-text").text_content()
        assert int(text.split(" points")[0].split()[-1].replace(",", "")) > 100, text
    assert pixels(page, "#cut-before") != pixels(page, "#cut-after")
    page.tab.click("#measure")
    assert page.tab.locator("#cut").is_hidden()
    page.tab.locator("#canvas").focus()
    page.tab.keyboard.press("Enter")
    page.tab.keyboard.press("ArrowRight")
    page.tab.wait_for_timeout(300)
    page.tab.keyboard.press("Enter")
    assert page.tab.locator("#live").text_content().startswith("distance ")


def test_the_download_has_the_bytes_of_the_command_line(open_cleaned, scan, tmp_path):
    page = open_cleaned()
    with page.tab.expect_download() as download:
        page.tab.click("#download")
    assert download.value.suggested_filename == "step.denoised.ply"
    words = [sys.executable, "-m", "becalm", "denoise", str(scan), "-o", str(tmp_path / "cli.ply")]
    subprocess.run(words, check=True, capture_output=True)
    assert Path(download.value.path()).read_bytes() == (tmp_path / "cli.ply").read_bytes()


def test_wrong_files_are_told_why_and_leave_the_rest_alone(open_page):
    page = open_page()
    files = [("notes.docx", b"x"), ("empty.ply", b""), ("large.ply", b"x" * 1_100_000), ("bad.ply", b"ply\nnonsense\n")]
    page.tab.set_input_files("#files", [{"name": n, "mimeType": "", "buffer": b} for n, b in files])
    reasons = ("does not read this kind", "the file is empty", "is larger than", "bad.ply: ")
    for (name, _), reason in zip(files, reasons, strict=True):
        page.tab.get_by_role("button", name=name, exact=True).click()
        page.tab.wait_for_selector("#warnings .error")
        text = page.tab.locator("#warnings .error").text_content()
        assert name in text and reason in text


def test_an_example_is_there_for_those_who_have_no_scan(open_page):
    page = open_page()
    page.tab.click("#example")
    page.tab.wait_for_selector("#sliders:not([hidden]), #warnings .error")
    assert page.tab.text_content("#facts").startswith("Points32,806Noise before") and page.tab.is_hidden("#example")
    page.tab.get_by_role("button", name="Remove example.ply").click()
    page.tab.wait_for_selector("#example:not([hidden])")


def test_cancel_ends_a_job(open_page, scan):
    page = open_page()
    page.tab.set_input_files("#files", scan)
    page.tab.get_by_role("button", name="Cancel step.ply").click(delay=900)  # a slow press, while the list changes
    page.tab.wait_for_selector("#jobs .state:text('Cancelled')")


def test_two_browsers_see_their_own_scans(open_cleaned, open_page):
    open_cleaned()
    assert open_page().tab.locator("#jobs li").count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_the_page_is_accessible_and_fits(open_cleaned, width, scheme):
    page = open_cleaned(width=width, scheme=scheme)
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    if not AXE.is_file():
        pytest.skip("needs axe-core: npm ci in web/")
    assert accessibility_faults(page) == []


def test_a_puzzle_is_solved_in_both_orders(open_page):
    page = open_page()
    go_to(page, "puzzle")
    page.tab.locator("#p-draw").focus()
    page.tab.keyboard.press("Delete")
    assert page.tab.input_value("#p-text")[0] == "."
    page.tab.keyboard.press("1")
    page.tab.select_option("#p-steps", "3")
    page.tab.click("#p-solve")
    page.tab.wait_for_selector("#p-download:not([hidden]), #p-job .error")
    page.tab.wait_for_selector("#p-note0:has-text('11 steps: ')")  # the recorded runs are fetched after the result
    # the other order is shown to its end too
    assert paper_share(page, "#p-lane1") > 0.8 * paper_share(page, "#p-lane0")
    end = pixels(page, "#p-lane0")
    page.tab.click("#p-back")
    assert pixels(page, "#p-lane0") != end
    set_slider(page, "#p-time", 0)
    page.tab.click("#p-play")
    page.tab.wait_for_selector("#p-play:text('Play')")
    assert pixels(page, "#p-lane0") == end
    with page.tab.expect_download() as download:
        page.tab.click("#p-download")
    assert download.value.suggested_filename == "sudoku.solved.png"
    assert accessibility_faults(page) == []


def paper_share(page, selector):
    """The share of a canvas, in light, that is white: without ink and without noise."""
    return page.tab.locator(selector).evaluate(
        """canvas => {
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return data.filter((value, k) => k % 4 === 0 && value > 235).length / (data.length / 4);
        }"""
    )


def test_a_photograph_of_a_puzzle_is_solved(open_page, tmp_path):
    page = open_page()
    go_to(page, "puzzle")
    page.tab.set_input_files("#p-file", [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x"}])
    assert "is no picture" in page.tab.text_content("#p-job .error")
    cells, empty = example()
    pixels = (255 * photograph_of(draw_page(empty, cells))).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    page.tab.select_option("#p-steps", "3")
    page.tab.set_input_files("#p-file", tmp_path / "photo.jpg")
    page.tab.wait_for_selector("#p-download:not([hidden]), #p-job .error")
    assert page.tab.get_attribute("#p-download", "download") == "photo.solved.png"


def test_a_picture_is_solved_with_its_mask(open_page):
    page = open_page()
    go_to(page, "puzzle")
    image, mask = (PUZZLES / f"sudoku4{part}.png" for part in ("", ".mask"))
    page.tab.set_input_files("#p-file", [image, PUZZLES / "sudoku9.png"])
    assert "Which of the two pictures is the mask?" in page.tab.text_content("#p-job .error")
    page.tab.select_option("#p-steps", "3")
    page.tab.set_input_files("#p-file", [mask, image])
    page.tab.wait_for_selector("#p-download:not([hidden])")
    assert page.tab.get_attribute("#p-download", "download") == "sudoku4.solved.png"


def test_shapes_are_made_and_one_is_varied_and_downloaded(open_page):
    page = open_page()
    go_to(page, "shapes")
    page.tab.select_option("#s-number", "6")
    page.tab.click("#s-make")
    page.tab.wait_for_selector(".tile >> nth=5")
    assert page.tab.locator("#s-vary").is_disabled()
    page.tab.click(".tile >> nth=1")
    page.tab.locator(".tile >> nth=2").press("Enter")
    assert page.tab.locator(".tile[aria-pressed=true]").all_text_contents() == ["A", "B"]
    with page.tab.expect_download() as download:
        page.tab.click("#s-save")
    assert download.value.suggested_filename == "shape2.ply" and download.value.path().stat().st_size > 2048 * 12
    page.tab.click("#s-path")
    page.tab.wait_for_selector("#s-between:not([hidden])")
    first = pixels(page, "#s-canvas0")
    set_slider(page, "#s-slider", 8)
    assert pixels(page, "#s-canvas0") != first and page.tab.locator(".tile").count() == 9
    assert accessibility_faults(page) == []


def test_images_are_measured(open_page):
    page = open_page(width=360, scheme="dark")
    go_to(page, "likelihood")
    page.tab.select_option("#l-draws", "4")
    page.tab.click("#l-examples")
    page.tab.wait_for_selector("#l-wall li >> nth=5")
    bits = [float(text.split()[0]) for text in page.tab.locator("#l-wall b").all_text_contents()]
    assert bits == sorted(bits, reverse=True)
    page.tab.select_option("#l-order", "fewest")
    assert [float(text.split()[0]) for text in page.tab.locator("#l-wall b").all_text_contents()] == bits[::-1]
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= 360
    assert accessibility_faults(page) == []
    page.tab.set_input_files("#l-files", [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x"}])
    assert "neither a picture nor" in page.tab.text_content("#l-job .error")


def test_the_widget_of_notebooks_draws_and_its_swipe_works(open_cleaned, cleaned):
    page = open_cleaned()
    page.tab.evaluate(
        """async (number) => {
            const { default: widget } = await import("/page.js");
            const buffer = await (await fetch(`/jobs/${number}/run`)).arrayBuffer();
            const el = Object.assign(document.createElement("div"), { id: "widget" });
            document.body.prepend(el);
            widget.render({ model: { get: (name) => ({ bundle: new DataView(buffer), height: 300 })[name] }, el });
        }""",
        cleaned,
    )
    first = pixels(page, "#widget canvas")
    set_slider(page, "#widget input", 100)
    assert pixels(page, "#widget canvas") != first
    page.tab.select_option("#widget select", "displacement")
    assert "to" in page.tab.text_content("#widget span")
