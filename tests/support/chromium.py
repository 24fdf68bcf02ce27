"""Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

PATH = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDED = pytest.mark.skipif(
    PATH is None, reason="there is no chromium here: apt-get install chromium"
)


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser until the end of the block."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=PATH, args=arguments)
        yield browser
        browser.close()
