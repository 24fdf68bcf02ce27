"""docs/tutorial.md, from its first command to its last: all run, and print what is shown."""

import re
import subprocess
from pathlib import Path

from tests.support.clones import Clone
from tests.support.paths import ROOT
from tests.support.runs import HANGS

BLOCK = re.compile(r"```\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"(make|python|source) ")
# What is typed instead: of a user's own, or what would install packages or open a window
INSTEAD = {
    "make run": "python main.py",
    "make report": "python -m pipeline report",
    "source .venv/bin/activate": "",
}
OWN = {"RUN_ID": "last", "path/to/houses.csv": "houses.csv"}
HERE = {  # no environment is built for the steps: tests/stress/test_environments.py does that
    "python main.py": "main.env_manager=local",
    "python -m pipeline promote": "--env-manager=local",
    "python -m pipeline predict": "--env-manager=local",
}
CHANGES = r"(in )?\d+\.\d s|\d{8}-\d{6}-\w{6}|\S+ \S+ UTC .*"  # from run to run


def sessions() -> list[tuple[str, list[str]]]:
    """Each command of the tutorial, and the lines that it is shown to print."""
    found: list[tuple[str, list[str]]] = []
    for block in BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")):
        lines = block.splitlines()
        if COMMAND.match(lines[0]):
            found += [(line, []) for line in lines]
        else:
            found[-1][1].extend(line for line in lines if line.strip(" ."))
    return found


def plain(line: str) -> str:
    """A line without what differs from run to run."""
    return " ".join(re.sub(CHANGES, "", line).split())


def typed(command: str) -> str:
    """A command as it is run here."""
    command = INSTEAD.get(command, command)
    for name, own in OWN.items():
        command = command.replace(name, own)
    return " ".join([command, *(word for start, word in HERE.items() if command.startswith(start))])


def test_the_tutorial(tmp_path: Path):
    clone = Clone.make(tmp_path)
    place = clone.root
    rows = "".join(f"{n % 7},{'new' if n % 3 else 'old'},{90 + 11 * (n % 7)}\n" for n in range(99))
    (place / "houses.csv").write_text(f"rooms,state,price\n{rows}")
    env = clone.environment(BROWSER="true", COLUMNS="80")
    for command, shown in sessions():
        done = subprocess.run(
            typed(command), shell=True, cwd=place, env=env, capture_output=True, text=True,
            timeout=HANGS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        printed = [plain(line) for line in done.stdout.splitlines()]
        missing = [line for line in shown if plain(line) not in printed]
        assert not missing, (command, missing, done.stdout)
    assert (place / "scored.csv").is_file()
    assert (place / "conf" / "data" / "houses.yaml").is_file()
