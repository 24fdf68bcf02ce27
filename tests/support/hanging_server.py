"""``python -m tests.support.hanging_server FOLDER OPTIONS``: a server whose model hangs for a row.

It is the product's server; scoring a row whose ``hp`` is :data:`HANGS` never ends.
"""

import runpy
import threading

from pipeline.models.scoring import LoadedModel

HANGS = "66"
_score = LoadedModel.score_valid


def _score_or_hang(loaded: LoadedModel, requests: list) -> list:
    if any(HANGS in map(str, cells["hp"]) for cells in requests):
        threading.Event().wait()
    return _score(loaded, requests)


if __name__ == "__main__":
    LoadedModel.score_valid = _score_or_hang
    runpy.run_module("pipeline.models.serving.server", run_name="__main__")
