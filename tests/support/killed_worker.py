"""``python -m tests.support.killed_worker FOLDER``: kill a server's scoring processes.

Prints the answers to the same rows before, just after and later. It is a process of its own, with
which the scoring processes and their resource tracker end.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.odd_requests import TITLES, client
from tests.support.paths import POKEMON


def main(folder: Path) -> None:
    """Ask, kill, ask, ask."""
    line = POKEMON.read_text(encoding="utf-8").splitlines()[1]
    row = dict(zip(TITLES, line.split(","), strict=True))
    body = json.dumps({"dataframe_records": [row]}).encode()
    with client(folder, workers=2) as several:
        answers = [several.ask(body)]
        for number in several.server.served.scorers.processes():
            os.kill(number, signal.SIGKILL)
        answers += [several.ask(body), several.ask(body)]
        print(json.dumps([[answer.status_code, answer.json()] for answer in answers]))
        several.server.served.scorers.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
