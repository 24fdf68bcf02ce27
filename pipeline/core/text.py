"""Text from outside, such as names of people, files and runs, as a terminal may show it."""

import re
from typing import TextIO

# Control characters but tab and newline, among them the one that begins a terminal's commands; and
# those that reverse the direction of text
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


COLOR = re.compile("(\x1b\\[[0-9;]*m)")


def printable(text: object, colors: bool = False) -> str:
    """A text without characters that a terminal obeys rather than shows.

    Args:
        text: the text.
        colors: leave what sets colors.
    """
    pieces = COLOR.split(str(text)) if colors else [str(text)]
    pieces[::2] = (CONTROL.sub("", piece) for piece in pieces[::2])
    return "".join(pieces)


def say(text: object, *, file: TextIO | None = None, flush: bool = False) -> None:
    """Print a text that may be somebody else's."""
    print(printable(text), file=file, flush=flush)
