"""``python -m tests.support.killed_worker FOLDER SIGNAL``: kill or stop a server's processes.

Prints the answers to the same rows before and after, up to the first predictions. A last process
gets the signal while it loads the model, and has to end with the others. This is a process of its
own, with which the scoring processes and their resource tracker end.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.support.odd_requests import TITLES, client
from tests.support.paths import POKEMON

MOST = 50


def main(folder: Path, number: signal.Signals) -> None:
    """Ask, send the signal, and ask until there are predictions."""
    line = POKEMON.read_text(encoding="utf-8").splitlines()[1]
    row = dict(zip(TITLES, line.split(","), strict=True))
    body = json.dumps({"dataframe_records": [row]}).encode()
    with client(folder, workers=2, timeout=2) as several:
        answers = [several.ask(body)]
        for process in several.server.served.scorers.processes():
            os.kill(process, number)
        answers.append(several.ask(body))
        while answers[-1].status_code != 200 and len(answers) < MOST:
            answers.append(several.ask(body))
        print(json.dumps([[answer.status_code, answer.json()] for answer in answers]))
        scorers = several.server.served.scorers
        late = scorers._start()  # which is loading the model, or would be
        scorers._workers.append(late)
        for process in late.processes:
            os.kill(process.pid, number)
        scorers.close()
        for process in late.processes:
            process.join()
            assert process.exitcode == -signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]), signal.Signals[sys.argv[2]])
