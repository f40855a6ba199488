"""The page, in a headless Chromium: what a person sees and does."""

from __future__ import annotations

import re
import threading

import pytest
from browser import KEYS, browsing, needs_browser
from server_app import listening

from retriever.data.document import Document
from retriever.indexing.index import Index
from retriever.server.keys import Key

pytestmark = needs_browser

SHOWN = "return document.querySelectorAll('.hit').length"


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def page(browser, service):
    with listening(service) as url:
        browser.open("about:blank")
        browser.open(url)
        browser.wait("return document.querySelector('#facts').innerText")
        yield browser
        assert [told for told in browser.console() if "status of 422" not in told] == []


def ask(page, query):
    page.type("#q", query)
    page.wait(SHOWN)


def test_hits_come_as_one_types_with_matches_marked(page, index):
    assert page.text("#facts") == ["5 documents · tiny"]
    assert not page.run("return document.querySelector('#access').checkVisibility()")  # no key is needed
    ask(page, "reset the device")
    expected = [hit.id for hit in index.search("reset the device")]
    assert page.run("return [...document.querySelectorAll('.hit')].map(e => e.dataset.id)") == expected
    assert {text.lower() for text in page.text(".hit:first-child mark")} == {"reset", "device"}
    assert re.fullmatch(r"\d hits in [\d.]+ ms", page.text("#status")[0])
    page.type("#q", " qqqq")
    page.wait("return location.search.includes('qqqq')")


def test_all_modes_stand_side_by_side(page):
    ask(page, "battery")
    page.click("input[value=all]")
    page.wait("return document.querySelectorAll('.column').length === 3")
    assert page.text(".column h2") == ["Both", "Meaning", "Words"]
    places = page.run("return [...document.querySelectorAll('.column')].map(e => e.getBoundingClientRect().top)")
    assert len(set(places)) == 1
    assert len(page.text(".column:nth-child(3) .hit")) == 1


def test_why_a_hit_is_there_is_told_on_request(page):
    ask(page, "battery")
    assert not any(page.text(".hit:first-child table"))
    page.click(".hit:first-child summary")
    words = " ".join(page.text(".hit:first-child table")[0].split())
    assert words.startswith("Looked for Rank Score Meaning 1 ") and " Words 1 " in words
    assert "year 2021" in " ".join(page.text(".hit:first-child dl")[0].split())


def test_filters_narrow_the_hits_and_a_mistake_is_told(page):
    ask(page, "device battery")
    page.type("#filters", "year>=2020 lang=de")
    page.wait("return document.querySelectorAll('.hit').length === 1")
    assert re.fullmatch(r"1 hit in [\d.]+ ms", page.text("#status")[0])
    page.type("#filters", " yeer=1")
    page.wait("return document.querySelector('#status.bad')")
    assert "has a field 'yeer'" in page.text("#status")[0]


def test_a_filter_in_quotes_may_hold_blanks(page, index):
    index.add([Document("smith", text="zebra", metadata={"author": "Smith, John", "year": 2024})])
    ask(page, "device zebra")
    page.type("#filters", 'year>=2020 author="Smith, John"')
    page.wait("return document.querySelectorAll('.hit').length === 1")
    told = 'return new URLSearchParams(location.search).getAll("filters")'
    assert page.run(told) == ["year>=2020", 'author="Smith, John"']
    page.open(page.run("return location.href"))
    page.wait(SHOWN)
    assert page.run(told) == ["year>=2020", 'author="Smith, John"']


def test_texts_run_from_the_side_where_their_script_begins(page, index):
    index.add([Document("rtl", "دليل الجهاز.", "اضغط zebra معا.", {"lang": "عربي"})])
    ask(page, "zebra")
    page.click(".hit:first-child summary")
    direction = "return [...document.querySelectorAll(arguments[0])].map(e => getComputedStyle(e).direction)"
    written = ".hit[data-id=rtl] h3, .hit[data-id=rtl] p:not(.about), .hit[data-id=rtl] dd"
    assert page.run(direction, written) == ["rtl"] * 4
    assert page.run(direction, "body, .about, dt, #q") == ["ltr"] * len(page.text("body, .about, dt, #q"))
    page.press("escape")
    ask(page, "دليل")
    assert page.run(direction, "#q") == ["rtl"]


def test_a_slow_answer_is_announced(page, monkeypatch):
    ask(page, "battery")
    gate, search = threading.Event(), Index.search_batch
    monkeypatch.setattr(Index, "search_batch", lambda *given, **options: gate.wait(20) and search(*given, **options))
    page.type("#q", " manual")
    page.wait("return document.querySelector('#status').innerText === 'Searching …'")
    gate.set()
    page.wait("return document.querySelector('#status').innerText.includes(' hits in ')")


def test_markup_in_documents_is_shown_and_not_run(page):
    page.run("window.harmed = false; window.alert = () => { window.harmed = true }")
    ask(page, "script image")
    page.click(".hit:first-child summary")
    card = page.text(".hit:first-child")[0]
    assert "<script>alert(1)</script>" in card and "<img src=x onerror=alert(1)>" in card and "<b>" in card
    assert page.run("return document.querySelectorAll('#results script, #results img, #results b').length") == 0
    assert page.run("return window.harmed") is False


def test_the_keyboard_is_enough(page):
    ask(page, "device")
    focused = "return document.activeElement.dataset.id || document.activeElement.id"
    ids = page.run("return [...document.querySelectorAll('.hit')].map(e => e.dataset.id)")
    for expected in (ids[0], ids[1]):
        page.press("down")
        assert page.run(focused) == expected
    page.press("up")
    page.press("up")
    assert page.run(focused) == "q"
    page.press("down")
    page.press("/")
    assert page.run(focused) == "q"
    page.press("escape")
    page.wait("return !document.querySelector('.hit') && document.querySelector('#q').value === ''")


def test_the_keys_of_one_who_composes_a_character_are_left_alone(page):
    ask(page, "battery")
    press = """
    const event = new KeyboardEvent("keydown", {key: arguments[0], isComposing: true, bubbles: true, cancelable: true});
    return document.querySelector("#q").dispatchEvent(event);
    """
    assert page.run(press, "ArrowDown") and page.run(press, "Escape")
    assert page.run("return [document.activeElement.id, document.querySelector('#q').value]") == ["q", "battery"]


def test_documents_are_added_and_deleted(page, index):
    page.click("#change summary")
    for field, text in (
        ("#id", "z/1"),
        ("#title", "A zebra"),
        ("#text", "zebra heron"),
        ("#metadata", '{"year": 2030}'),
    ):
        page.type(field, text)
    page.click("#add button")
    page.wait("return document.querySelector('#status').innerText === 'z/1 is added.'")
    assert index.get("z/1").metadata == {"year": 2030}
    ask(page, "zebra")
    page.wait("return document.querySelector('#facts').innerText.startsWith('6 ')")
    page.click(".hit:first-child > button")
    assert page.accept() == "Delete z/1?"
    page.wait("return document.querySelector('#status').innerText === 'z/1 is deleted.'")
    assert index.get("z/1") is None and page.text(".hit:first-child h3") != ["A zebra"]


def test_metadata_that_are_no_json_are_told(page, index):
    page.click("#change summary")
    for field, text in (("#id", "z"), ("#text", "zebra"), ("#metadata", "year 2030")):
        page.type(field, text)
    page.click("#add button")
    page.wait("return document.querySelector('#status').innerText === 'The metadata are no JSON object.'")
    assert len(index) == 5


def test_a_question_can_be_linked(page):
    url = page.run("return location.origin")
    page.open(f"{url}/?q=battery&mode=bm25&k=1&filters=year%3E2020&filters=lang%3Dde")
    page.wait(SHOWN)
    assert page.run("return document.querySelector('input[name=mode]:checked').value") == "bm25"
    assert page.run("return document.querySelector('#filters').value") == "year>2020 lang=de"
    page.click("input[value=hybrid]")
    page.wait("return location.search.includes('mode=hybrid')")
    assert page.run("return new URLSearchParams(location.search).getAll('filters')") == ["year>2020", "lang=de"]


def test_skipping_to_the_results_keeps_them(page):
    ask(page, "battery")
    page.run("document.querySelector('.skip').click()")
    page.wait("return location.hash === '#results'")
    assert page.run("return document.querySelector('#q').value") == "battery" and page.run(SHOWN)


def test_a_phone_shows_it_without_scrolling_sideways(page):
    ask(page, "battery")
    page.click("input[value=all]")
    page.wait("return document.querySelectorAll('.column').length === 3")
    page.size(360, 740)
    assert page.run("return document.documentElement.scrollWidth") <= 360
    lefts = page.run("return [...document.querySelectorAll('.column')].map(e => e.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1
    page.size(1280, 900)


def test_a_phone_shows_long_names_without_scrolling_sideways(page, index):
    index.add([Document("i" * 300, "T" * 300, f"zebra {'x' * 300}", {"k" * 100: "v" * 100, "list": [1] * 100})])
    ask(page, "zebra")
    page.click(".hit:first-child summary")
    page.size(360, 740)
    assert page.run("return document.documentElement.scrollWidth") <= 360
    page.size(1280, 900)


CONTRAST = """
const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map((x) => x / 255);
const light = (colour) => {
  const [r, g, b] = parts(colour).map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (e) => {
  const own = getComputedStyle(e).backgroundColor;
  return own === "rgba(0, 0, 0, 0)" && e.parentElement ? ground(e.parentElement) : own;
};
return [...document.querySelectorAll("h1, h3, p, label, legend, mark, summary, button, input, th, td")]
  .filter((e) => e.offsetParent)
  .map((e) => {
    const [dark, bright] = [light(getComputedStyle(e).color), light(ground(e))].sort((a, b) => a - b);
    return [(bright + 0.05) / (dark + 0.05), e.tagName, e.className, e.innerText];
  })
  .filter(([contrast]) => contrast < 4.5);
"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_everything_is_legible_in_the_dark_and_in_the_light(page, scheme):
    page.scheme(scheme)
    ask(page, "battery")
    page.click(".hit:first-child summary")
    page.click("#change summary")
    assert page.run(CONTRAST) == []
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", ground)[0]) < 60) == (scheme == "dark")


def test_every_field_has_a_label_and_every_part_a_name(page):
    unnamed = """
    return [...document.querySelectorAll("input, textarea, button")]
      .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).map((e) => e.outerHTML);
    """
    ask(page, "battery")
    assert page.run(unnamed) == []
    assert page.run("return document.documentElement.lang") == "en"
    assert page.run("return document.querySelector('#status').getAttribute('aria-live')") == "polite"
    page.run("document.querySelector('#filters').focus()")
    assert page.run("return getComputedStyle(document.activeElement).outlineWidth") == "3px"


def test_a_key_is_asked_for_and_used(browser, service):
    keys = (Key.of("k" * 16, "write", "x"),)
    with listening(service, keys=keys) as url:
        browser.open(url)
        browser.wait("return document.querySelector('#access').open && document.querySelector('#key').offsetParent")
        assert "needs a key" in browser.text("#status")[0]
        browser.type("#key", "k" * 16 + KEYS["enter"])
        browser.wait("return document.querySelector('#facts').innerText")
        browser.type("#q", "battery")
        browser.wait(SHOWN)
        browser.run("sessionStorage.clear()")
        assert all("401" in message for message in browser.console())


def test_what_may_not_be_changed_has_no_buttons(browser, service):
    with listening(service, read_only=True) as url:
        browser.open(f"{url}/?q=battery")
        browser.wait(SHOWN)
        assert not browser.run("return document.querySelector('#change').checkVisibility()")
        assert browser.text(".hit > button") == []
        assert len(Index.open(service.index.folder)) == 5
