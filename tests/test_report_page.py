"""The report of a real study, opened from disk in a browser."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from analysis.report.page import write_report

TRAINED = Path(__file__).parents[1] / "results" / "trained"


def browser() -> str | None:
    """A Chromium of this machine, or the one that `playwright install chromium` fetched."""
    for name in ("chromium", "google-chrome"):
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        fetched = playwright.chromium.executable_path
    return fetched if Path(fetched).is_file() else None


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    found = browser()
    if found is None:
        pytest.skip("no browser: install the package chromium, or run python -m playwright install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the committed study, with a video in it."""
    study = tmp_path_factory.mktemp("results") / "trained"
    shutil.copytree(TRAINED, study, ignore=shutil.ignore_patterns("report"))
    film(study / "pong" / "episode 0.mp4")
    return write_report(study)


def film(path: Path) -> None:
    """A second of grey frames; VP9, which both OpenCV writes and every Chromium plays."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"vp09"), 10, (160, 120))  # type: ignore[attr-defined]
    assert writer.isOpened()
    for shade in range(10):
        writer.write(np.full((120, 160, 3), 20 * shade, np.uint8))
    writer.release()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_opens_from_disk(chromium: Browser, report: Path, width: int, colours: str) -> None:
    context = chromium.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=colours,  # type: ignore[arg-type]
        offline=True,
    )
    page = context.new_page()
    said: list[str] = []
    failed: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("request", lambda request: asked.append(request.url))
    try:
        page.goto(report.as_uri())
        look_at(page, width)
    finally:
        context.close()
    assert said == []
    assert failed == []
    assert asked
    assert [url for url in asked if not url.startswith("file:")] == []


def look_at(page: Page, width: int) -> None:
    assert [heading.inner_text() for heading in page.query_selector_all("h2")] == [
        *("Answer", "Scores", "Learning", "Conversion", "Cost", "Inside the networks", "Videos", "Provenance")
    ]
    assert "Share of the DQN's score above random play" in page.inner_text("#answer .lead")
    assert {"minatar/breakout", "minatar/space_invaders", "pong"} <= {
        cell.text_content() for cell in page.query_selector_all("#scores td:first-child")
    }
    assert page.query_selector("#answer img[src$='score_against_energy.png']")
    # Every picture is there, and a link to a section leads to one.
    pictures = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(pictures) == len(list((TRAINED / "figures").glob("*.png"))) > 0
    assert min(pictures) > 0
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(link => link.href)")
    files = [Path(unquote(urlsplit(link).path)) for link in links if "#" not in link]
    assert [file for file in files if not file.is_file()] == []
    assert {file.suffix for file in files} == {".png", ".pdf", ".csv", ".tex", ".parquet"}
    assert page.evaluate(
        "[...document.querySelectorAll('nav a')].every(a => document.querySelector(a.getAttribute('href')))"
    )
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState >= 1)")
    assert page.evaluate("[...document.querySelectorAll('video')].map(video => video.videoWidth)") == [160]
    # Nothing is wider than the window, also when all is unfolded; what is wide scrolls in its own box.
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    assert page.evaluate("document.documentElement.clientWidth") == width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    boxes = page.evaluate(
        "[...document.querySelectorAll('.scroll, .frame')].map(box => [box.scrollWidth, box.clientWidth])"
    )
    assert width > 400 or any(inside > outside for inside, outside in boxes)
    assert page.evaluate(CLIPPED) == []
    # The first column stays where it is.
    assert page.evaluate(SCROLLED) <= 1
    # And words can be told from the paper: WCAG's contrast of normal text.
    assert page.evaluate(CONTRAST) >= 4.5


def test_a_table_is_sorted_by_its_headings_and_is_whole_without_them(chromium: Browser, report: Path) -> None:
    def column(page: Page, number: int) -> list[str]:
        cells = f"#scores details:has-text('Scores') tbody tr td:nth-child({number})"
        return [cell.text_content() or "" for cell in page.query_selector_all(cells)]

    context = chromium.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(report.as_uri())
    scores = [float(cell.replace(",", "")) for cell in column(plain, 9)]
    assert len(scores) > 30
    context.close()
    page = chromium.new_page()
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    heading = page.locator("#scores details:has-text('Scores') th:nth-child(9) button")
    for expected in (sorted(scores, reverse=True), sorted(scores)):
        heading.first.click()
        assert [float(cell.replace(",", "")) for cell in column(page, 9)] == expected
    page.close()


SCROLLED = """() => Math.max(...[...document.querySelectorAll('.scroll')].map(box => {
  box.scrollLeft = 80;
  const cell = box.querySelector('td:first-child');
  const gap = cell ? cell.getBoundingClientRect().left - box.getBoundingClientRect().left : 0;
  box.scrollLeft = 0;
  return Math.abs(gap);
}))"""
CLIPPED = """() => [...document.querySelectorAll('p, li, td, th, dt, dd, figcaption, summary, h1, h2, h3')]
  .filter(each => each.scrollWidth > each.clientWidth + 1 && getComputedStyle(each).display !== 'inline')
  .map(each => each.textContent)"""

CONTRAST = """() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => {
    const [r, g, b] = parts(colour).slice(0, 3).map(value => value / 255)
      .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = each => {
    const colour = getComputedStyle(each).backgroundColor;
    return parts(colour)[3] === 0 ? paper(each.parentElement) : light(colour);
  };
  const written = [...document.body.querySelectorAll(':not(script)')]
    .filter(each => [...each.childNodes].some(child => child.nodeType === 3 && child.data.trim()));
  return Math.min(...written.map(each => {
    const pair = [light(getComputedStyle(each).color), paper(each)];
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
  }));
}"""


def test_make_says_how_a_report_is_made() -> None:
    help_text = subprocess.run(
        ["make", "help"], cwd=TRAINED.parents[1], capture_output=True, text=True
    ).stdout
    assert "\nreport " in help_text
