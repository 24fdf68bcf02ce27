"""Every page that is written as a file, in a browser: on a desk and on a phone, light and dark."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from pipeline.history import page as comparisons
from tests.support import chromium, reports, sweep_pages
from tests.support.comparisons import measured, seven
from tests.support.paths import ROOT

pytestmark = chromium.NEEDED


def pokemon() -> str:
    table = pd.read_csv(ROOT / "data" / "pokemon.csv").drop(columns=["#", "Name"])
    earlier = table.assign(HP=table["HP"] * 2)
    forest = RandomForestClassifier(5, random_state=0)
    return reports.report(
        table, "Legendary", forest, positive=True, earlier=earlier, learning_curve=True
    )


def regression() -> str:
    table = reports.numbers().assign(price=lambda t: 200_000 + 90_000 * t.x0 + 1000 * t.x1)
    forest = RandomForestRegressor(5, random_state=0)
    return reports.report(table, "price", forest, learning_curve=True)


def forest(table: pd.DataFrame) -> str:
    return reports.report(table, "kind", RandomForestClassifier(5, random_state=0))


PAGES: dict[str, Callable[[], str]] = {
    "pokemon": pokemon,
    "regression": regression,
    "classes": lambda: forest(reports.many_classes(300)),
    "odd": lambda: forest(reports.odd_labels()),
    "sweep": lambda: sweep_pages.render(sweep_pages.twelve(), {"depth": 0.7, "kind": 0.3}),
    "compare": lambda: comparisons.render(seven(), measured()),
}
STICKING_OUT = """() => [...document.querySelectorAll("td, th, dd, h1, p, figcaption, pre")]
    .filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.outerHTML.slice(0, 80))"""
CUT_LETTERS = """() => [...document.querySelectorAll("figure svg")].flatMap(drawing => {
    const box = drawing.getBoundingClientRect()
    return [...drawing.querySelectorAll("text")].filter(text => {
        const own = text.getBoundingClientRect()
        return own.left < box.left - 1 || own.right > box.right + 1
    }).map(text => text.outerHTML)
})"""
LOOKED_AT = {("light", 390), ("dark", 1200)}  # by axe, which takes a second


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(name: str, browser: Browser, tmp_path: Path):
    file = tmp_path / f"{name}.html"
    file.write_text(PAGES[name](), encoding="utf-8")
    assert file.stat().st_size < 1_500_000
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, viewport={"width": 1200, "height": 900})
        page, said = context.new_page(), []
        page.on("console", lambda line, said=said: said.append(line.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda asked, said=said: said.append(asked.url))
        page.goto(file.as_uri())
        assert said == [file.as_uri()]  # no line, and no other file
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (color == "rgb(255, 255, 255)") is (scheme == "light")
        for width in (1200, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(STICKING_OUT) == []
            assert page.evaluate(CUT_LETTERS) == []
            assert (scheme, width) not in LOOKED_AT or chromium.loud(page) == []
        context.close()


def test_a_table_of_trials_is_sorted_by_a_click(browser: Browser, tmp_path: Path):
    file = tmp_path / "sweep.html"
    file.write_text(PAGES["sweep"](), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    first = page.locator(".sortable tbody tr").first.locator("td").nth(1)
    for wanted in ("0.500", "0.750"):
        page.get_by_role("button", name="val_f1").click()
        assert first.text_content() == wanted
    page.close()


def test_a_figure_is_saved_as_a_file_that_stands_alone(browser: Browser, tmp_path: Path):
    file = tmp_path / "report.html"
    file.write_text(PAGES["regression"](), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    with page.expect_download() as download:
        page.get_by_role("link", name="Save Predicted against true as SVG").click()
    assert download.value.suggested_filename == "predicted-against-true.svg"
    saved = tmp_path / "saved.svg"
    download.value.save_as(saved)
    page.goto(saved.as_uri())
    assert page.evaluate("document.documentElement.tagName") == "svg"
    color = page.evaluate("getComputedStyle(document.querySelector('.dot')).fill")
    assert color == "rgb(31, 95, 139)"
    page.close()
