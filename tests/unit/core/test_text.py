"""Text from outside is shown, and obeyed by no terminal."""

import pytest

from pipeline.core.errors import PipelineError, report_error
from pipeline.core.text import printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Ada \x1b]0;title\x07Lovelace\x1b[2J", "Ada ]0;titleLovelace[2J"),
        ("a\rb\x9b31mc\x00\x7f", "ab31mc"),
        ("abc\u202edcba", "abcdcba"),
        ("one\n\ttwo é 漢", "one\n\ttwo é 漢"),
    ],
)
def test_control_characters_go(text: str, shown: str, capsys: pytest.CaptureFixture):
    assert printable(text) == shown
    say(text)
    assert capsys.readouterr().out == f"{shown}\n"


def test_colors_stay_where_they_are_wanted():
    assert printable("\x1b[31mred\x1b[0m\x1b[2J", colors=True) == "\x1b[31mred\x1b[0m[2J"


def test_errors_are_printable(capsys: pytest.CaptureFixture):
    report_error(PipelineError("no file \x1b[2Jx.csv", "check it"))
    assert capsys.readouterr().err == "error: no file [2Jx.csv\n  check it\n"
