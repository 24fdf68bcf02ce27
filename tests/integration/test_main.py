"""``python -m pipeline``: how it finds its commands and refuses wrong words."""

import subprocess
import sys

import pytest

from pipeline.__main__ import cli, main
from tests.support.paths import ROOT
from tests.support.runs import Checkout, Finished


def test_each_package_has_registered_its_commands():
    homes = {command.callback.__module__ for command in cli.commands.values()}
    assert homes == {
        f"{path.parent.relative_to(ROOT).as_posix().replace('/', '.')}.commands"
        for path in [*ROOT.glob("pipeline/*/commands.py"), ROOT / "dashboard" / "commands.py"]
    }


def test_help_loads_no_large_library():
    code = (
        "import sys; from pipeline.__main__ import main; assert main(['--help']) == 0;"
        "print({'mlflow', 'pandas', 'hydra', 'omegaconf', 'rich', 'wandb'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "sync-to-wandb  Copy a run" in done.stdout
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize("words", ["log", "show last", "compare", "verify"])
def test_reading_loads_neither_tracker(finished: tuple[Checkout, Finished], words: str):
    code = (
        "import sys; from pipeline.__main__ import main; assert main(sys.argv[1:]) == 0;"
        "print({'mlflow', 'trackio', 'wandb', 'pandas', 'sklearn'} & {*sys.modules})"
    )
    checkout = finished[0]
    done = checkout.python("-c", code, "--state-dir", checkout.state, *words.split())
    assert done.status == 0, done.err
    assert done.out.endswith("set()\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logs"], "No such command 'logs'"),
        (["show"], "Missing argument 'RUN_ID'"),
        (["log", "-n", "0"], "0 is not in the range x>=1"),
        (["promote", "--best", "--run", "x"], "give one of --version, --run and --best"),
        (["reproduce", "last", "split.test_size=0.3"], "settings follow --set"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: pytest.CaptureFixture):
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Usage: python -m pipeline ")
    assert message in printed
