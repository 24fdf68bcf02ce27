"""The script that a person tries a real W&B account with, on a server that imitates W&B."""

from pathlib import Path

from tests.support import shared_workers
from tests.support.runs import Checkout
from tests.support.wandb_server import WandbServer


def test_the_smoke_script_checks_all_and_leaves_nothing(tmp_path: Path):
    checkout = Checkout(tmp_path)
    with WandbServer() as server:
        server.store.registry("model")
        words = ("--project", "smoke", "--registry", "model", "main.env_manager=local")
        done = checkout.python(
            "-m", "tools.wandb_smoke", *words, cwd=checkout.root, **server.environment()
        )
        assert done.status == 0, done.out + done.err
        assert len([line for line in done.out.splitlines() if line.startswith("ok ")]) == 23
        assert server.runs == {}
        assert server.artifacts == {}
        assert not server.unanswered
    assert shared_workers.other_processes() == []
