"""The page of a replay as text: it answers first, lets nothing in, and shows what was asked for."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from comparisons import CENTRE, OPEN, PLAIN, compared, off, report

from spec_vla_ros.replay.markup import json_block, options
from spec_vla_ros.replay.report import NO_PLOTS, plotly_js

LIBRARY = "/* a library */"
JPEG = b"\xff\xd8\xff"
FOREIGN = "</script><script>alert(1)</script><img src=x onerror=alert(2)>'\"&amp;\u202e"


class Page(HTMLParser):
    """Elements with their attributes in order, and the text of everything but scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words, self.scripts, self._within, self.open = [], [], [], None, []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._within = tag
        if tag not in {"meta", "img", "input", "br", "!doctype"}:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append((dict(attributes), ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, "every element is closed in its turn"
        self._within = None

    def handle_data(self, data):
        if self._within == "script":
            self.scripts[-1] = (self.scripts[-1][0], data)
        elif self._within != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def mixed():
    """Within, beyond in z, and a gripper that does the opposite."""
    return compared(CENTRE, off(x=3), off(z=12), off(gripper=OPEN), instruction=FOREIGN)


def test_the_answer_comes_before_everything_else(mixed):
    page = Page(report(mixed).page(LIBRARY))
    text = page.text
    order = [
        *("Does speculative decoding", "fastest: 2 of 4 actions beyond the radius", "Next:", "passes per action"),
        *("Inside the radius", "Where decoders differ", "Moments to look at", "Time per action", "All figures"),
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert [attributes["id"] for attributes in page.of("section") if "id" in attributes] == ["verdict"]
    assert page.open == []


@pytest.mark.parametrize(
    ("actions", "level", "words"),
    [
        ([CENTRE], "identical", "fastest: all 1 actions identical"),
        ([off(x=9)], "within", "fastest: all 1 actions in the radius"),
        ([off(x=10)], "beyond", "fastest: 1 of 1 actions beyond the radius"),
    ],
)
def test_each_level_has_its_words_and_its_colour(actions, level, words):
    page = Page(report(compared(*actions)).page(None))
    assert {"class": f"verdict {level}", "id": "verdict"} in page.of("section")
    assert {"class": f"card {level}"} in page.of("section")
    assert words in page.text
    assert ("None: no action of 1 is beyond what was allowed." in page.text) == (level != "beyond")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (("fastest",), "Cannot judge: autoregressive decoding, which a verdict compares with, was not replayed."),
        ((PLAIN,), "Nothing to judge: only autoregressive decoding was replayed."),
    ],
)
def test_without_two_decoders_to_compare_the_page_says_that_it_cannot_judge(order, words):
    page = Page(report(compared(off(x=20), order=order)).page(LIBRARY))
    assert words in page.text
    assert {"class": "verdict unknown", "id": "verdict"} in page.of("section")
    assert "Moments to look at" not in page.text
    assert [box["data-plot"] for box in page.of("div") if "data-plot" in box] == [
        "motion",
        "passes",
        "accepted",
        "times",
    ]


def test_images_without_an_action_are_said_beside_the_verdict():
    text = Page(report(compared(None, CENTRE, CENTRE)).page(None)).text
    assert "1 of 3 images gave an error and are not judged." in text
    assert "1 images: NON_FINITE: nan" in text


def test_each_moment_has_its_time_its_picture_and_what_is_beyond(mixed):
    page = Page(report(mixed, {2: JPEG, 3: JPEG}).page(None))
    figures = [attributes["id"] for attributes in page.of("figure")]
    assert figures == ["image-3", "image-2"], "the gripper first"
    assert [picture["src"] for picture in page.of("img")] == [
        f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    ] * 2
    assert "0.3 s , image 3 fastest : gripper open, autoregressive closed" in page.text
    assert "0.2 s , image 2 fastest : z +24.0 mm, 18.0 allowed (12 bins, 9 allowed)" in page.text
    links = {link["href"] for link in page.of("a")}
    assert links == {"#moments", "#image-3", "#image-2"}, "the card leads to the gripper's and the largest distance's"


def test_very_many_moments_fold_and_none_is_lost():
    page = Page(report(compared(*[off(x=10)] * 30)).page(None))
    assert len(page.of("figure")) == 30
    assert "18 more" in page.text


def test_foreign_text_stays_text(mixed):
    """In the page, in the title, and inside JSON, which a closing tag would have ended."""
    page = report(mixed, bag={"name": FOREIGN}, image_topic=FOREIGN, model="\udcff").page(LIBRARY)
    found = Page(page)
    assert "alert" not in "".join(script for _, script in found.scripts)
    assert not [attributes for attributes in found.of("img") if "onerror" in attributes]
    assert "</script><script>alert(1)</script>" in found.text, "it is shown as it is"
    assert "\u202e" not in page
    page.encode()


def test_json_in_a_page_ends_no_element():
    value = ["</script>", "<!--<script>", "&lt;", "\u2028"]
    block = json_block(value)
    assert not set("<>&\u2028") & set(block)
    assert json.loads(block) == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_block([float("nan")])


def test_the_page_allows_no_request_and_no_script_but_its_own(mixed):
    page = report(mixed).page(LIBRARY)
    found = Page(page)
    (policy,) = [meta["content"] for meta in found.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    scripts = [script for attributes, script in found.scripts if attributes.get("type") != "application/json"]
    assert scripts[0] == LIBRARY
    assert {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts} == allowed
    assert not [a for _, a in found.elements if "href" in a and not a["href"].startswith("#")]
    assert not [a for _, a in found.elements if "src" in a and not a["src"].startswith("data:")]


def test_plots_are_those_of_the_figures_and_no_text_from_a_recording_is_in_them(mixed):
    page = Page(report(mixed).page(LIBRARY))
    (figures,) = [json.loads(script) for attributes, script in page.scripts if attributes.get("id") == "figures"]
    boxes = [box["data-plot"] for box in page.of("div") if "data-plot" in box]
    assert sorted(boxes) == sorted(figures)
    assert [radio["value"] for radio in page.of("input")] == list(figures["axes"]["choices"]) == ["fastest"]
    assert "alert" not in json.dumps(figures)


def test_without_a_library_the_page_says_so_and_has_all_the_rest(mixed):
    page = Page(report(mixed, {2: JPEG}).page(None))
    assert NO_PLOTS in page.text
    assert page.scripts == []
    assert not [box for box in page.of("div") if "data-plot" in box]
    assert "fastest: 2 of 4 actions beyond the radius" in page.text
    assert len(page.of("details")) >= 4, "tables fold"


def test_the_machine_of_the_times_is_said_and_that_others_are_older(mixed):
    made = report(mixed)
    made.content["machine"].update(accelerator="a GPU", load_average=[9.0, 9.0, 9.0])
    made.content["counts"]["continued_from_row"] = 3
    text = Page(made.page(None)).text
    assert (
        "Times were measured on a GPU, a processor, 2 cores. Those of the first 3 images are of an earlier run." in text
    )
    assert "The load was 9.0 on 2 cores" in text
    made.content["counts"]["continued_from_row"] = 4
    text = Page(made.page(None)).text
    assert "All times are of an earlier run, and of its machine; this one is a GPU, a processor, 2 cores." in text
    assert "The load" not in text, "that of today says nothing of them"


def test_options_of_the_command_line_stay_in_one_line():
    assert options("a (--acceptance-mm 1 --acceptance-mrad 2.5; 0 is <strict>)") == (
        "a (<code>--acceptance-mm 1</code> <code>--acceptance-mrad 2.5</code>; 0 is &lt;strict&gt;)"
    )


def test_the_library_can_stand_inside_a_page():
    pytest.importorskip("plotly")
    assert not re.search(r"</script|<!--", plotly_js(), re.IGNORECASE)
