"""Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

PATH = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = pytest.mark.skipif(
    PATH is None, reason="there is no chromium here: apt-get install chromium"
)
LOUD = ("serious", "critical")  # what axe calls these


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser until the end of the block."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=PATH, args=arguments)
        yield browser
        browser.close()


def loud(page: Page, **foreign: str) -> list[str]:
    """What axe finds that keeps people from reading a page.

    Args:
        page: the page.
        foreign: by a rule's name, with ``_`` for ``-``, the class of elements that are not ours.
    """
    found = Axe().run(page).response
    assert len(found["passes"]) > 5  # it has looked
    return [
        f"{one['id']}: {node['html'][:100]}"
        for one in found["violations"]
        if one["impact"] in LOUD
        for node in one["nodes"]
        if foreign.get(one["id"].replace("-", "_"), "nowhere") not in node["target"][0]
    ]
