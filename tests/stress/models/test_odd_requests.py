"""Two thousand odd requests to the model server: predictions or a short reason, never a 500."""

from pathlib import Path

from tests.support.odd_requests import client, fuzz


def test_two_thousand_odd_requests(tmp_path: Path):
    with client(tmp_path) as server:
        fuzz(server, 2000)
