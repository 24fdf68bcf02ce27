"""Makes text from outside, such as names of people, files and runs, safe to print."""

import re
from typing import TextIO

# Control characters except tab and newline, and characters that reverse the direction of text
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


COLOR = re.compile("(\x1b\\[[0-9;]*m)")


def printable(text: object, colors: bool = False) -> str:
    """A text without control characters, which a terminal would obey.

    Args:
        text: the text.
        colors: keep the escape sequences that set colors.
    """
    pieces = COLOR.split(str(text)) if colors else [str(text)]
    pieces[::2] = (CONTROL.sub("", piece) for piece in pieces[::2])
    return "".join(pieces)


def say(text: object, *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a text without its control characters."""
    print(printable(text), file=file, flush=flush)
