"""Make the pictures of the README and of docs/ from real runs: ``python -m tools.make_pictures``.

The runs are made in a temporary folder, which takes some minutes. It needs ``make extras`` and
chromium.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
from hydra import compose, initialize_config_dir
from playwright.sync_api import Page, sync_playwright

from conversion import dvc_export, step_calls
from pipeline.config import schema
from pipeline.core.settings import ROOT
from pipeline.reporting import graph
from pipeline.tracking.dashboards import free_port

DOCS = ROOT / "docs"
PICTURE = DOCS / "pipeline.svg"
NAME = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "Misty"}
PROMOTION = ["--env-manager=local", "--why=better f1"]
SWEEP = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=12", "model=random_forest"]
PATIENCE = 120_000  # ms until a server answers, or a page shows something


def picture(steps: Mapping[str, step_calls.Call]) -> str:
    """The SVG of the steps that ``main.py`` calls and the artifacts between them."""
    graph_steps = [
        graph.Step(
            call.step,
            [reference.partition(":")[0] for reference in call.inputs_from.values()],
            dict.fromkeys(call.artifacts, ""),
        )
        for call in steps.values()
    ]
    return graph.as_svg(graph_steps)


def draw_steps() -> None:
    """Write the picture of the steps."""
    schema.register()
    with initialize_config_dir(str(ROOT), version_base="1.3"):
        steps = step_calls.record_calls(dvc_export.main_function(), compose("config"))
    PICTURE.write_text(picture(steps), encoding="utf-8")


def main() -> None:
    """Make all pictures."""
    draw_steps()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        state = Path(folder, "state")
        pipeline = ["-m", "pipeline", "--state-dir", str(state)]
        run = ["main.py", f"main.state_dir={state}"]
        python(*run)
        python(*run, "model=gradient_boosting")
        for version in "12":
            python(*pipeline, "promote", f"--version={version}", *PROMOTION)
        compared = Path(folder, "compare.html")
        python(*pipeline, "compare", "--output", str(compared))
        report = python(*pipeline, "report", "--no-browser").strip()
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1000, "height": 1650})
        page.set_default_timeout(PATIENCE)
        show(page, Path(report).as_uri(), "report")
        show(page, compared.as_uri(), "compare", "#metrics")
        port = str(free_port("127.0.0.1", 8501))
        with served(*pipeline, "app", "--no-browser", f"--port={port}"):
            show_app(page, f"http://127.0.0.1:{port}", Path(folder))
        with served(*pipeline, "dashboard", "--no-browser") as address:
            show_lineage(page, address)
        python("main.py", "-m", *run[1:], *SWEEP)
        show(page, next((state / "runs").glob("*/sweep/sweep.html")).as_uri(), "sweep", "#figures")
        browser.close()


def python(*words: str) -> str:
    """Run a program of this repository; its output."""
    print("python", *words, flush=True)
    command = [sys.executable, *words]
    return subprocess.check_output(command, cwd=ROOT, env={**os.environ, **NAME}, text=True)


@contextlib.contextmanager
def served(*words: str) -> Iterator[str]:
    """Run a server during the block; the address that it prints first, when it answers there."""
    command = [sys.executable, *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stdout or ())
            printed = (word for line in lines for word in line.split())
            address = next(word for word in printed if word.startswith("http"))
            place = urlsplit(address)
            while server.poll() is None:
                with contextlib.suppress(OSError):
                    socket.create_connection((place.hostname, place.port), 1).close()
                    break
                time.sleep(0.1)
            yield address
        finally:
            server.terminate()
            server.communicate()  # it also prints when it ends


def show(page: Page, address: str, name: str, below: str = "h1") -> None:
    """Photograph a page, from an element on."""
    page.goto(address)
    scroll = "below => document.querySelector(below).scrollIntoView({behavior: 'instant'})"
    page.evaluate(scroll, below)
    page.screenshot(path=DOCS / f"{name}.png")


def show_app(page: Page, address: str, folder: Path) -> None:
    """Photograph the app, and the drift of an upload in which hp has doubled."""
    page.goto(address)
    page.set_viewport_size({"width": 1000, "height": 1350})
    page.get_by_text("better f1").first.wait_for()
    page.get_by_text("average_precision").wait_for()
    page.get_by_alt_text("Steps and artifacts").wait_for()
    page.screenshot(path=DOCS / "app.png")
    table = pd.read_csv(ROOT / "data" / "pokemon.csv")
    upload = folder / "new.csv"
    table.assign(HP=(table["HP"] * 2).clip(upper=255)).to_csv(upload, index=False)
    page.set_viewport_size({"width": 1000, "height": 1950})
    page.get_by_role("tab", name="Predict many, and drift").click()
    page.locator("input[type=file]").set_input_files(upload)
    page.locator(".js-plotly-plot .bars path").last.wait_for()
    page.screenshot(path=DOCS / "app_drift.png")


def show_lineage(page: Page, address: str) -> None:
    """Photograph the lineage of the second model in Trackio's dashboard."""
    page.set_viewport_size({"width": 1280, "height": 800})
    selected = "&selected_artifact=model&selected_version=v1&detail_tab=lineage"
    page.goto(address.replace("/?", "/artifacts?") + selected)
    page.get_by_text("model:v1", exact=True).first.wait_for(state="attached")
    page.wait_for_timeout(2000)  # it moves, and nothing says when it has arrived
    page.screenshot(path=DOCS / "trackio.png")
    page.set_viewport_size({"width": 1000, "height": 1650})


if __name__ == "__main__":
    main()
