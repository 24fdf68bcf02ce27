"""``make dashboard``: Trackio's and MLflow's pages, until Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from tests.support.paths import ROOT
from tests.support.runs import HANGS, Checkout, Finished


def fetched(address: str) -> str:
    """What a server answers, as soon as it does."""
    until = time.monotonic() + HANGS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=HANGS) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def test_both_are_served_until_ctrl_c(finished: tuple[Checkout, Finished], tmp_path: Path):
    checkout = finished[0].copy(tmp_path / "home")
    words = ["-m", "pipeline", "--state-dir", checkout.state, "dashboard", "--no-browser"]
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=checkout.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    try:
        told = dict(process.stdout.readline().split() for _ in range(2))
        assert told["Trackio"].endswith("/?project=pokemon")
        assert "trackio" in fetched(told["Trackio"]).lower()
        assert "mlflow" in fetched(told["MLflow"]).lower()
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) > 1
        os.kill(process.pid, signal.SIGINT)
        rest, _ = process.communicate(timeout=HANGS)
        assert "Traceback" not in rest
        assert not psutil.wait_procs(below, timeout=HANGS)[1]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=HANGS)
