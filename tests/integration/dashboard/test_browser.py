"""The app and the report in a real browser: Debian's chromium, driven by Playwright."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect

from dashboard.launch import UPLOAD
from pipeline.steps.context import VARIABLE, StepContext
from tests.support import chromium, odd_requests
from tests.support.paths import POKEMON, ROOT
from tests.support.registered import Registered
from tests.support.servers import free_port, process

pytestmark = chromium.NEEDED
PATIENCE = 60_000  # ms to wait for what should come at once
expect.set_options(timeout=PATIENCE)
TABS = ("In production", "Over time", "Predict one", "Predict many, and drift")


@pytest.fixture(scope="module")
def place(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Registered:
    """Versions of a model, the first one in production."""
    place = registered.copy(tmp_path_factory.mktemp("app") / "home")
    promote(place, 1)
    return place


def promote(place: Registered, version: int) -> None:
    """By the command, whatever the gate says of so few trees."""
    words = ("--env-manager=local", f"--version={version}", "--force", "--why=a <b>reason</b>")
    place.pipeline("promote", *words)


@pytest.fixture(scope="module")
def address(place: Registered) -> Iterator[str]:
    """The app, as ``make app`` starts it."""
    port, log = free_port(), place.home / "app.log"
    command = [sys.executable, "-m", "pipeline", "app", "--no-browser", f"--port={port}"]
    with process(command, port, log, env=place.environment(), cwd=place.home):
        yield f"http://127.0.0.1:{port}"
    assert "Traceback" not in log.read_text()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that has to come through without an error, and without the network."""
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    page, said = context.new_page(), []
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda line: line.type in ("error", "warning") and said.append(line.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda asked: said.append(asked.url) if is_outside(asked.url) else None)
    yield page
    context.close()
    assert said == []


def is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "file:", "data:", "blob:"))


def fits(page: Page) -> None:
    """Nothing sticks out to the side or is hard to read, on a phone and on a desk in the dark."""
    for width, scheme in ((390, "light"), (1200, "dark")):  # wide again for what comes next
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")
        # Streamlit makes st.table scroll on a phone, and takes no tabindex for it
        assert chromium.loud(page, scrollable_region_focusable=".stTable") == []


def opened(page: Page, address: str, tab: str) -> Page:
    page.goto(address)
    page.get_by_role("tab", name=tab, exact=True).click()
    return page


def test_it_shows_what_is_in_production(page: Page, address: str):
    opened(page, address, TABS[0])
    expect(page.get_by_text("Version 1 is in production", exact=False)).to_be_visible()
    expect(page.get_by_text("History of promotions")).to_be_visible()
    expect(page.get_by_text("a <b>reason</b>")).to_be_visible()
    expect(page.get_by_text("Its training in MLflow")).to_be_visible()
    picture = page.get_by_alt_text("Steps and artifacts of the pipeline run")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 100")
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        fits(page)
    page.get_by_role("tab", name=TABS[1], exact=True).click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()


def test_one_pokemon_is_predicted_by_form(page: Page, address: str):
    opened(page, address, "Predict one")
    for field, value in {"total": 680, "hp": 106, "sp_atk": 154, "speed": 130}.items():
        page.get_by_label(field, exact=True).fill(str(value))
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_text("legendary: True")).to_be_visible()
    expect(page.get_by_text("says version 1")).to_be_visible()
    fits(page)


def test_the_servers_page_predicts(page: Page, tmp_path: Path):
    """It loads nothing from elsewhere, in any width, and can be read by everyone."""
    with odd_requests.client(tmp_path) as asked, odd_requests.listening(asked) as address:
        page.goto(address)
        page.get_by_role("button", name="Predict").click()
        expect(page.get_by_text("probability_True")).to_be_visible()
        fits(page)


def test_many_are_predicted_by_upload_and_drift_is_seen(
    page: Page, address: str, place: Registered
):
    table = pd.read_csv(POKEMON, dtype=str, keep_default_na=False)
    table["HP"] = [str(min(int(hp) * 2, 255)) for hp in table["HP"]]
    table.loc[1, "HP"] = "many"
    file = {"name": "new.csv", "mimeType": "text/csv", "buffer": table.to_csv(index=False).encode()}
    before = files(place.home)
    opened(page, address, "Predict many, and drift")
    page.locator("input[type=file]").set_input_files(file)
    expect(page.get_by_text("799 of 800 rows scored with version 1")).to_be_visible()
    expect(page.get_by_text("1 without a prediction")).to_be_visible()
    expect(page.get_by_text("1 of 10 columns have changed: hp")).to_be_visible()
    fits(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download all predictions").click()
    scored = pd.read_csv(download.value.path(), dtype=str, keep_default_na=False)
    assert scored["Name"].tolist() == table["Name"].tolist()
    assert "'many' is not a number" in scored["reason"][1]
    assert (scored["prediction"] == "True").sum() > 10
    assert files(place.home) == before  # the upload was in memory only


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "mlflow.db" not in path.name}


def test_an_upload_that_is_too_large_or_no_table_is_refused(page: Page, address: str, place):
    opened(page, address, "Predict many, and drift")
    upload = page.locator("input[type=file]")
    upload.set_input_files({"name": "x.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"})
    expect(page.get_by_text("the rows lack")).to_be_visible()
    large = place.home / "large.csv"
    with large.open("wb") as file:
        file.truncate((UPLOAD + 1) * 2**20)
    try:
        opened(page, address, "Predict many, and drift")
        page.locator("input[type=file]").set_input_files(large)
        expect(page.get_by_text("MB or smaller")).to_be_visible()
    finally:
        large.unlink()


def test_a_report_reads_well_and_needs_nothing_else(page: Page, place: Registered, tmp_path: Path):
    report = written(place)
    page.goto(report.as_uri())
    for title in ("Metrics", "Errors", "Lineage", "Reproduce this run"):
        expect(page.get_by_role("heading", name=title)).to_be_visible()
    fits(page)
    page.emulate_media(color_scheme="light", media="print")
    dark = page.evaluate("getComputedStyle(document.body).color")
    assert max(map(int, dark.removeprefix("rgb(").removesuffix(")").split(","))) < 64
    pages = page.pdf(format="A4").count(b"/Type /Page\n")
    assert 3 <= pages <= 12


def written(place: Registered) -> Path:
    """The report of the first version, written once."""
    path = place.home / "kept" / "report.html"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        names = {"model": "model", "train": "train_data.csv", "test": "test_data.csv"}
        words = [f"--{key}_artifact={name}:v0" for key, name in names.items()]
        told = {VARIABLE: StepContext(report=str(path.with_suffix(".json"))).to_json()}
        place.printed(str(ROOT / "5-Report" / "script.py"), *words, **told)
    return path


def test_a_promotion_elsewhere_is_seen_without_a_restart(page: Page, address: str, place):
    """The last one: version 2 is in production from then on."""
    opened(page, address, "Predict one")
    page.get_by_role("button", name="Predict", exact=True).click()
    expect(page.get_by_text("says version 1")).to_be_visible()
    promote(place, 2)
    expect(page.get_by_text("Version 2 is in production", exact=False)).to_be_visible()
    expect(page.get_by_text("says version 2")).to_be_visible()
    page.get_by_role("tab", name="In production", exact=True).click()
    expect(page.get_by_text("1 → 2")).to_be_visible()
