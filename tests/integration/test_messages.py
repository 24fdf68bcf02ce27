"""What is said to a user's mistakes, word by word: ``messages/*.txt``, to be read aloud.

A block is a table, if there is one, the command typed, and the answer. MESSAGES=write pytest ...
writes the answers anew.
"""

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.core.security import hardening
from pipeline.core.settings import STATE_DIR
from tests.support import messages
from tests.support.paths import POKEMON, ROOT

FOLDER = Path(__file__).with_name("messages")
LONGEST = 12  # lines of an answer
MAIN, COMMAND, TABLE = "$ python main.py ", "$ python -m pipeline ", "| "


@dataclass
class Block:
    """A mistake: the table of the user's own, the command, and the answer."""

    table: list[str]
    command: str
    answer: str

    @classmethod
    def read(cls, text: str) -> "Block":
        """A block of a file."""
        lines = text.splitlines()
        place = next(n for n, line in enumerate(lines) if line.startswith("$ "))
        table = [line.removeprefix(TABLE) for line in lines[:place]]
        return cls(table, lines[place], "\n".join(lines[place + 1 :]))

    def __str__(self) -> str:
        table = "".join(f"{TABLE}{line}\n" for line in self.table)
        return f"{table}{self.command}\n{self.answer}\n"


def blocks(name: str) -> list[Block]:
    """The blocks of a file, which a line between them keeps apart."""
    return [*map(Block.read, (FOLDER / name).read_text(encoding="utf-8").strip().split("\n\n"))]


def compare(name: str, answer: Callable[[Block], str]) -> None:
    """Compare a file's answers with those that come now."""
    stored, now = blocks(name), blocks(name)
    for block in now:
        block.answer = answer(block).replace(str(ROOT), "")
    if os.environ.get("MESSAGES") == "write":
        (FOLDER / name).write_text("\n".join(map(str, now)), encoding="utf-8")
        stored = now
    assert now == stored, f"{FOLDER / name} differs: read it, then MESSAGES=write"
    for block in now:
        _, found, error = f"\n{block.answer}".partition("\nerror: ")
        assert not found or 1 < len(error.splitlines()) <= LONGEST, block  # with a remedy


def test_settings():
    def answer(block: Block) -> str:
        words = _words(block, MAIN)
        own = any(word.startswith("data") for word in words)
        return messages.of_main(words if own else [f"data.file_url={POKEMON}", *words])

    compare("settings.txt", answer)


def test_tables(tmp_path: Path):
    file = tmp_path / "table.csv"

    def answer(block: Block) -> str:
        file.write_text("\n".join(_repeated(block.table)), encoding="utf-8")
        words = ["data=csv", f"data.file_url={file}", *_words(block, MAIN)]
        return messages.of_main(words).replace(str(tmp_path), "")

    compare("tables.txt", answer)


def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(STATE_DIR, str(tmp_path / "state"))
    monkeypatch.setattr(hardening, "harden", lambda: None)  # this process is not the command's
    monkeypatch.chdir(tmp_path)

    def answer(block: Block) -> str:
        return messages.of_command(_words(block, COMMAND), capsys).replace(str(tmp_path), "")

    compare("commands.txt", answer)


def _words(block: Block, program: str) -> list[str]:
    return shlex.split(block.command.removeprefix(program))


def _repeated(table: list[str]) -> list[str]:
    """The lines of a table, in which ``*20`` repeats the rows above it, with a number for ``#``."""
    lines: list[str] = []
    for line in table:
        if line.startswith("*"):
            rows = lines[1:]
            lines[1:] = [
                row.replace("#", str(n)) for n in range(int(line[1:])) for row in rows
            ]  # fmt: skip
        else:
            lines.append(line)
    return lines
