"""The report in a real browser: at two widths, in light and dark, with a text in it that would like to be a script."""

import io
import os
import shutil

import numpy as np
import pytest
from comparisons import OPEN, PLAIN, compared, off, report
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("plotly")

from spec_vla_ros.replay.report import plotly_js  # noqa: E402

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FOREIGN = f"</script><script>hit = 1</script><img src=x onerror='hit = 2'><a href='https://example.com'>{'x' * 400}"
WIDTHS, SCHEMES = (390, 1280), ("light", "dark")
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}
TIMEOUT = 60_000  # ms; waits end with what they wait for


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        own = started.chromium.executable_path
        path = own if os.path.exists(own) else next(filter(None, map(shutil.which, BROWSERS)), None)
        if path is None:
            pytest.skip(
                f"no browser: none of {', '.join(BROWSERS)}, nor playwright's own (playwright install chromium)"
            )
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root has to
        opened = started.chromium.launch(executable_path=path, args=arguments)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A report with everything in it, foreign text wherever some can be."""
    actions = [off(x=n % 8, yaw=-(n % 5)) for n in range(300)]
    actions[40], actions[41], actions[200] = off(z=14), off(z=11, roll=-12), off(gripper=OPEN)
    comparison = compared(*actions, order=(PLAIN, "fastest", "training_free"), instruction=FOREIGN)
    stream = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(stream, format="JPEG")
    pictures = dict.fromkeys((40, 41, 200), stream.getvalue())
    made = report(comparison, pictures, bag={"name": FOREIGN}, image_topic=FOREIGN, model=FOREIGN)
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(made.page(plotly_js()), encoding="utf-8")
    return path.as_uri()


class Seen:
    """A page that is open, and what it complained about or asked for."""

    def __init__(self, browser, address, **context):
        self.page = browser.new_context(**context).new_page()
        self.page.set_default_timeout(TIMEOUT)
        self.complaints, self.requests = [], []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)
        self.drawn("overview", "axes", "passes", "times")

    def drawn(self, *names):
        for name in names:
            self.page.wait_for_selector(f"#{name} .main-svg .cartesianlayer .subplot", state="attached")

    def span(self, name):
        return self.page.evaluate(f"document.getElementById('{name}')._fullLayout.xaxis.range.map(Number)")

    def overflow(self):
        """Px by which the page is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


@pytest.fixture
def seen(browser, address):
    opened = []

    def see(**context):
        opened.append(Seen(browser, address, **context))
        return opened[-1]

    yield see
    for one in opened:
        one.page.context.close()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_is_drawn_in_its_theme_and_asks_nobody_for_anything(seen, address, width, scheme):
    one = seen(viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert one.overflow() == 0
    for name in ("overview", "axes", "passes", "times"):
        box = one.page.locator(f"#{name} .main-svg").first.bounding_box()
        assert box["width"] <= width
        assert box["height"] > 100
        fill = f"getComputedStyle(document.querySelector('#{name} .main-svg')).backgroundColor"
        assert one.page.evaluate(fill) == PAPER[scheme]
    assert one.page.evaluate("getComputedStyle(document.body).backgroundColor") == PAPER[scheme]
    table = "document.querySelector('#verdict .scroll')"
    assert one.page.evaluate(f"{table}.scrollWidth - {table}.clientWidth") == 0, "the answer's table is seen whole"
    verdict = one.page.locator("#verdict").bounding_box()
    assert verdict["y"] < 100, "the answer is what is seen first"
    one.page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    one.drawn("motion", "accepted")
    assert one.overflow() == 0, "unfolded, too"
    assert one.page.evaluate("typeof hit") == "undefined", "foreign text ran"
    assert one.complaints == []
    assert one.requests == [address]


def test_a_theme_that_changes_takes_the_plots_with_it(seen):
    one = seen(viewport={"width": 1280, "height": 900}, color_scheme="light")
    one.page.emulate_media(color_scheme="dark")
    one.page.wait_for_function(
        "colour => getComputedStyle(document.querySelector('#overview .main-svg')).backgroundColor === colour",
        arg=PAPER["dark"],
    )


def test_tables_fold_and_unfold(seen):
    one = seen(viewport={"width": 1280, "height": 900})
    table = one.page.locator("details:has-text('Decoders, one row each') table").first
    assert not table.is_visible()
    one.page.get_by_text("Decoders, one row each").click()
    assert table.is_visible()
    assert "training_free" in table.inner_text()


def test_a_zoom_in_one_plot_is_a_zoom_in_all_over_time_and_a_double_click_goes_back(seen):
    one = seen(viewport={"width": 1280, "height": 900})
    whole = one.span("overview")
    assert whole == one.span("axes")
    box = one.page.locator("#overview .nsewdrag").first
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    x, y = place["x"], place["y"] + place["height"] / 2
    one.page.mouse.move(x + 0.2 * place["width"], y)
    one.page.mouse.down()
    one.page.mouse.move(x + 0.4 * place["width"], y, steps=4)
    one.page.mouse.up()
    one.page.wait_for_function(f"document.getElementById('axes')._fullLayout.xaxis.range[1] < {0.6 * whole[1]}")
    low, high = one.span("overview")
    length = whole[1] - whole[0]
    assert (low - whole[0]) / length == pytest.approx(0.2, abs=0.02)
    assert (high - whole[0]) / length == pytest.approx(0.4, abs=0.02)
    assert one.span("axes") == [low, high]
    one.page.get_by_text("The motion itself", exact=True).click()
    one.drawn("motion")
    assert one.span("motion") == [low, high], "what is unfolded later, too"
    box.scroll_into_view_if_needed()
    place = box.bounding_box()
    one.page.mouse.dblclick(place["x"] + 0.5 * place["width"], place["y"] + place["height"] / 2)
    one.page.wait_for_function(f"document.getElementById('axes')._fullLayout.xaxis.range[1] > {0.9 * whole[1]}")
    assert one.complaints == []


def test_a_mark_can_be_read_off_and_leads_to_its_picture(seen):
    one = seen(viewport={"width": 1280, "height": 900})
    mark = one.page.locator("#overview .scatterlayer .trace").nth(1).locator(".point").first
    mark.scroll_into_view_if_needed()
    place = mark.bounding_box()
    x, y = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    one.page.mouse.move(x - 3, y)
    one.page.mouse.move(x, y, steps=3)
    one.page.wait_for_selector("#overview .hoverlayer .hovertext")
    said = one.page.locator("#overview .hoverlayer .hovertext").first.text_content()
    assert "fastest, 4.0 s, image 40" in said
    assert "z +28.0 mm, 18.0 allowed (14 bins, 9 allowed)" in said
    one.page.mouse.click(x, y)
    one.page.wait_for_function("location.hash === '#image-40'")
    assert one.page.locator("#image-40").is_visible()
    assert one.complaints == []


def test_another_decoder_can_be_chosen(seen):
    one = seen(viewport={"width": 390, "height": 900})
    shown = "document.getElementById('axes').data[1].marker && document.getElementById('axes').data[0].line.color"
    before = one.page.evaluate(shown)
    one.page.get_by_label("training_free").check()
    one.page.wait_for_function(f"({shown}) !== '{before}'")
    assert one.complaints == []


def test_a_finger_scrolls_the_page_and_does_not_zoom(seen):
    one = seen(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    assert one.page.evaluate("document.getElementById('overview')._fullLayout.dragmode") is False
    assert one.page.locator("#overview .modebar-btn[data-title='Zoom in']").first.is_visible()
    assert one.overflow() <= 0
