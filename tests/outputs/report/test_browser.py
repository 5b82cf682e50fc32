"""A report in a real browser, without network: drawn, complete, quiet, usable by keyboard, and right in its numbers."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foldline.outputs.report.page import write_report

pytestmark = pytest.mark.browser
SIZES = {"wide": (1440, 900), "middle": (1024, 768), "narrow": (390, 844)}
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]  # WebGL without a graphics card
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=str(chromium), args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(make: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A result and its page."""
    result = make(tmp_path_factory.mktemp("results"))
    return result, write_report(result.folder)


@pytest.fixture
def show(browser: Any, report: tuple[Any, Path]) -> Iterator[Open]:
    """Open a page offline; what it says on its console, or fetches, fails the test."""
    heard: list[str] = []
    contexts = []

    def opened(path: Path | None = None, size: str = "wide", scheme: str = "light", script: str = "") -> Any:
        width, height = SIZES[size]
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=True, reduced_motion="reduce"
        )
        contexts.append(context)
        context.set_default_timeout(120_000)  # a busy machine without a graphics card is slow
        page = context.new_page()
        address = (path or report[1]).as_uri()
        page.on("console", lambda message: heard.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: heard.append(f"error: {error}"))
        page.on("dialog", lambda dialog: heard.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: r.url in (address, "data:,") or heard.append(f"request: {r.url[:90]}"))
        page.on("websocket", lambda socket: heard.append(f"socket: {socket.url}"))
        if script:
            page.add_init_script(script)
        page.goto(address)
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert heard == []


def pixels(place: Any) -> np.ndarray:
    """A picture of an element as uint8 [height, width, 3]."""
    from PIL import Image

    return np.array(Image.open(io.BytesIO(place.screenshot())).convert("RGB"))


def differing(a: np.ndarray, b: np.ndarray) -> float:
    """Share of pixels that differ."""
    assert a.shape == b.shape
    return float((np.abs(a.astype(int) - b).max(axis=-1) > 8).mean())


def ranked(result: Any) -> list[tuple[int, int, Any]]:
    """Seed, number and confidences of all samples, the best first."""
    found = [(s.seed, i, c) for s in result.samples for i, c in enumerate(s.confidences)]
    return sorted(found, key=lambda entry: -entry[2].ranking_score)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_everything_is_drawn(show: Open, size: str, scheme: str) -> None:
    page = show(size=size, scheme=scheme)
    view = pixels(page.locator("#viewer"))
    background = np.median(view.reshape(-1, 3), axis=0)
    assert 0.02 < (np.abs(view - background).max(axis=-1) > 40).mean() < 0.9
    assert bool(background.mean() < 80) is (scheme == "dark")
    assert len(np.unique(view.reshape(-1, 3), axis=0)) > 500
    for name in ("#pae", "#tracks"):
        assert pixels(page.locator(name)).std() > 15
    assert page.locator("#viewer-message").is_hidden()
    wide, room = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide <= room, "the page is wider than the window"
    assert bool(pixels(page.locator("body"))[3, 3].mean() < 80) is (scheme == "dark")


def test_the_selector_changes_what_is_shown(show: Open, report: tuple[Any, Path]) -> None:
    page = show()
    places = [page.locator(name) for name in ("#viewer", "#pae", "#tracks")]
    before = [pixels(place) for place in places]
    scores = [page.locator("#verdict dd").all_inner_texts()]
    page.locator("#rail label").nth(2).click()
    page.wait_for_selector("html[data-sample='2']")
    after = [pixels(place) for place in places]
    scores.append(page.locator("#verdict dd").all_inner_texts())
    assert all(differing(a, b) > 0.02 for a, b in zip(before, after, strict=True))
    for shown, (_, _, confidences) in zip(scores, (ranked(report[0])[0], ranked(report[0])[2]), strict=True):
        wanted = (confidences.ranking_score, confidences.iptm, confidences.ptm)
        assert [float(text) for text in shown[:3]] == pytest.approx(wanted, abs=0.0051)
    page.select_option("#choose", "0")
    page.wait_for_selector("html[data-sample='0']")
    assert [differing(a, pixels(b)) < 0.01 for a, b in zip(before, places, strict=True)] == [True] * 3
    page.locator("#next").click()
    page.wait_for_selector("html[data-sample='1']")
    page.locator("#scores button").nth(3).click()
    page.wait_for_selector("html[data-sample='3']")
    assert page.locator("#next").is_disabled() and page.locator("tr.chosen td").first.inner_text() == "4"


def test_what_is_pointed_at_is_what_the_files_say(show: Open, report: tuple[Any, Path]) -> None:
    page, (result, _) = show(), report
    _, _, best = ranked(result)[0]
    tokens, t = result.job.atom_to_token, result.job.topology
    n = len(best.pae)
    box = page.evaluate("paeView.box")
    row, column = 70, 3
    at = {"x": box["x"] + (column + 0.5) * box["side"] / n, "y": box["y"] + (row + 0.5) * box["side"] / n}
    page.locator("#pae").hover(position=at)
    told = page.locator("#pae-readout").inner_text()
    named = [f"{t.chain_id[t.res_chain[r]]} {t.res_id[r]} {t.res_name[r]}" for r in (t.atom_res[tokens == row][0], 3)]
    assert told.startswith(f"{named[1]}, aligned on {named[0]}: ")
    assert float(re.findall(r"([\d.]+) Å", told)[0]) == pytest.approx(best.pae[row, column], abs=0.12)
    tracks = page.locator("#tracks-readout").inner_text()
    plddt = best.atom_plddt[tokens == row].mean()
    assert f"{named[0]}: pLDDT {plddt:.1f}" in tracks or f"{named[0]}: pLDDT {plddt - 0.05:.1f}" in tracks
    before = pixels(page.locator("#viewer"))
    page.locator("#pae").click(position=at)
    assert differing(before, pixels(page.locator("#viewer"))) > 0.0005, "the pair is not marked in the structure"


def test_pointing_at_the_structure(show: Open) -> None:
    page = show()
    origin = page.locator("#viewer").bounding_box()
    places = page.evaluate("""structureView.model.selectedAtoms({ atom: ["CA", "C1'"] }).map((atom) => {
      const place = structureView.viewer.modelToScreen(atom);
      return [place.x - scrollX, place.y - scrollY];
    })""")
    inside = [
        (x, y) for x, y in places if 0 < x - origin["x"] < origin["width"] and 0 < y - origin["y"] < origin["height"]
    ]
    for x, y in inside[::5]:
        page.mouse.move(x, y)
        page.wait_for_timeout(700)
        if page.locator("#tip").is_visible():
            break
    told = page.locator("#tip").inner_text()
    assert re.fullmatch(r"[A-F] \d+ [A-Z0-9]+( [A-Z0-9']+)?: pLDDT [\d.]+(, \d MSA rows)?", told), told
    assert page.locator("#tracks-readout").inner_text() == told
    page.mouse.down()
    page.mouse.up()
    page.mouse.move(5, 5)
    page.wait_for_timeout(700)
    assert page.locator("#tip").inner_text() == told, "what was clicked stays marked"
    page.locator("#next").click()
    page.wait_for_selector("html[data-sample='1']")
    assert page.locator("#tip").inner_text().split(":")[0] == told.split(":")[0]
    page.locator("#reset").click()
    assert page.locator("#tip").is_hidden()


def test_keyboard_alone(show: Open) -> None:
    page = show()
    page.locator("#sample-0").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("html[data-sample='1']")
    page.locator("#pae").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    assert page.evaluate("[paeView.cursor.row, paeView.cursor.column]") == [10, 3]
    page.locator("#tracks").focus()
    page.keyboard.press("Shift+ArrowRight")
    assert "pLDDT" in page.locator("#tracks-readout").inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#tracks-readout").inner_text() == ""
    view = page.locator("#viewer")
    first = pixels(view)
    view.focus()
    for key in ("ArrowLeft", "ArrowUp", "+"):
        page.keyboard.press(key)
    assert differing(first, pixels(view)) > 0.02
    reached = set()
    page.keyboard.press("Home")
    page.locator("body").press("Tab")
    for _ in range(40):
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        page.keyboard.press("Tab")
    assert {"theme", "choose", "viewer", "pae", "tracks", "reset"} <= reached


def test_colours_shapes_and_pairs(show: Open) -> None:
    page = show()
    view = page.locator("#viewer")
    seen = [pixels(view)]
    for label in ("Chain", "Element", "All atoms"):
        page.get_by_text(label, exact=True).first.click()
        seen.append(pixels(view))
    assert all(differing(a, b) > 0.01 for a, b in zip(seen, seen[1:], strict=False))
    iptm = page.locator("#pairs td.number").all_inner_texts()
    page.get_by_text("Smallest PAE", exact=True).click()
    assert page.locator("#pairs td.number").all_inner_texts() != iptm and len(iptm) == 36
    assert "–" in iptm, "the ion has no pTM"


def test_the_theme_button(show: Open) -> None:
    page = show(scheme="dark")
    colours = []
    for words in ("Colours: system", "Colours: light", "Colours: dark", "Colours: system"):
        assert page.locator("#theme").inner_text() == words
        colours.append(
            (pixels(page.locator("body"))[3, 3].mean() < 80, pixels(page.locator("#viewer"))[3, 3].mean() < 80)
        )
        page.locator("#theme").click()
    assert colours == [(True, True), (False, False), (True, True), (True, True)]


def test_warnings_are_prominent_and_text(show: Open) -> None:
    page = show()
    box = page.locator("#warnings")
    assert "the model is <b>not</b> sure & says so" in box.inner_text() and box.locator("b").count() == 0
    assert box.bounding_box()["y"] < 300


def test_an_odd_name_is_harmless(show: Open, make: Callable[..., Any], tmp_path: Path) -> None:
    name = "</script><b>x<img src=x onerror=alert(1)>"
    page = show(write_report(make(tmp_path, name=name, seeds=(1,)).folder))
    assert page.locator("h1").inner_text() == name and page.title() == f"{name} · Foldline"
    assert page.locator("h1 b, img").count() == 0


def test_without_webgl_the_rest_works(show: Open) -> None:
    script = """const get = HTMLCanvasElement.prototype.getContext;
    HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
      return kind.startsWith("webgl") ? null : get.call(this, kind, ...more);
    };"""
    page = show(script=script)
    assert "cannot be drawn: this browser has no WebGL" in page.locator("#viewer-message").inner_text()
    page.locator("#next").click()
    page.wait_for_selector("html[data-sample='1']")
    assert pixels(page.locator("#pae")).std() > 15


def test_many_samples_and_a_single_chain(
    show: Open, make: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from foldline.outputs.report import page as page_module
    from foldline.structure.entities import EntitySpec

    monkeypatch.setattr(page_module, "MAX_SHOWN", 3)
    monkeypatch.setattr(page_module, "MAX_CELLS", 100)
    job = {"id": "A", "sequence": "MKTAYIAKQRQISFVKSHFS", "unpairedMsa": "", "pairedMsa": "", "templates": []}
    chains = ([EntitySpec("protein", ("A",), job["sequence"])], [{"protein": job}])
    page = show(write_report(make(tmp_path, count=3, run={"warnings": []}, chains=chains).folder), size="narrow")
    assert page.locator("#rail label").count() == 3 and page.locator("#scores tbody tr").count() == 6
    assert "The best 3 of 6" in page.locator("#rail-note").inner_text()
    assert "mean over 4 × 4 tokens" in page.locator("#pae-note").inner_text()
    assert "empty alignment" in page.locator("#tracks-note").inner_text()
    assert page.locator("#warnings").is_hidden()
    assert page.locator("#verdict dd").nth(1).inner_text() == "–"
