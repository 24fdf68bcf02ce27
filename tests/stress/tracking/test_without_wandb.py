"""Where the package wandb has been uninstalled, everything but W&B works."""

import json
from pathlib import Path

import pytest

from tests.support.runs import SMALL, Checkout

KEY = {"WANDB_API_KEY": "x" * 40}
IMPORT_ALL = """
import importlib, json, pkgutil
failed = []
for package in map(importlib.import_module, ("pipeline", "conversion", "wrapper", "dashboard")):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        try:
            importlib.import_module(module.name)
        except ImportError:
            failed.append(module.name)
print(json.dumps(failed))
"""


@pytest.fixture
def without(tmp_path: Path) -> dict[str, str]:
    """Variables by which no Python can import wandb."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    return {"PYTHONPATH": str(tmp_path)}


def test_the_pipeline_runs_on_trackio_and_what_needs_wandb_says_so(
    tmp_path: Path, without: dict[str, str]
):
    checkout = Checkout(tmp_path / "home", shares_workers=False)  # they have imported nothing
    done = checkout.run(SMALL, "main.steps=all", **without, **KEY)
    assert done.status == 0, done.err
    assert done.states == ["ran"] * 5
    assert "the package wandb is not installed, so Trackio is used" in done.err + done.out
    promoted = checkout.tool("promote", "--env-manager=local", "promotion.minimum.f1=0", **without)
    assert "version 1 is in production" in promoted.out, promoted.err
    assert promoted.err == ""
    refused = [
        checkout.run("main.tracker=wandb", **without, **KEY),
        checkout.tool("sync-to-wandb", "--run", done.summary["run_id"], **without, **KEY),
    ]
    for one in refused:
        assert one.status == 1
        assert one.err.startswith("error: the package wandb, which W&B needs, is not installed")
        assert len(one.err.splitlines()) == 2


def test_only_the_modules_that_are_about_wandb_need_it(tmp_path: Path, without: dict[str, str]):
    """The app, the decorators, notebooks, serving, sweeps and all else can be imported."""
    checkout = Checkout(tmp_path / "home", shares_workers=False)
    done = checkout.python("-c", IMPORT_ALL, cwd=checkout.root, **without)
    assert done.status == 0, done.err
    failed = json.loads(done.out.splitlines()[-1])
    own = {"pipeline.tracking.sync_to_wandb", "pipeline.tracking.wandb.runs"}
    assert set(failed) == {*own, "pipeline.tracking.wandb.sdk"}
