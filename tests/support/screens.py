"""Screens of the terminal, as files beside the tests; SCREENS=write pytest ... writes them."""

import io
import os
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipeline.orchestration.terminal import PlainConsole

WIDTHS = (80, 200)


def check(test: str, name: str, show: Callable[[Console], None]) -> None:
    """Compare what is printed with the screens of a test's file, and hold all lines to the width.

    Args:
        test: the test's ``__file__``.
        name: the screen's.
        show: prints it.
    """
    folder = Path(test).with_name("screens")
    for width in WIDTHS:
        out = io.StringIO()
        show(PlainConsole(file=out, width=width, get_time=lambda: 0.0))
        text = "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())
        assert max(map(len, text.splitlines())) <= width
        path = folder / f"{name}-{width}.txt"
        if os.environ.get("SCREENS") == "write":
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{path} differs: look, then SCREENS=write"
