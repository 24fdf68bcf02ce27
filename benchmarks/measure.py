"""Builds the forms' environments, and measures commands in them: seconds and peak memory."""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOCK = ROOT / "requirements.lock"
TIME = "/usr/bin/time"
UV = Path(sys.executable).with_name("uv")
# Variables for every form: no telemetry, and no variables of the user.
ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "KEDRO_DISABLE_TELEMETRY": "1",
    "LANG": "C.UTF-8",
    "METAFLOW_USER": "benchmark",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "BENCHMARKS": str(HERE),
    "PROJECT": str(ROOT),
    "PYTHONPATH": f"{HERE / 'peaks'}{os.pathsep}{HERE}",
}
STEPS = {
    "1-Download_data": "download",
    "2-ETL": "etl",
    "3-Split_dataset": "split",
    "4-Training_model": "train",
}


@dataclass
class Measured:
    """Cost of a command: seconds, peak MiB of its largest process, and both for each step."""

    seconds: float
    mib: float
    steps: dict[str, dict[str, float]] = field(default_factory=dict)


def build(packages: tuple[str, ...], free: tuple[str, ...], cache: Path) -> Path:
    """Build an environment once, and return its folder.

    Its packages are compiled to bytecode.

    Args:
        packages: what to install; empty installs all of requirements.lock.
        free: packages that are not pinned to requirements.lock.
        cache: the folder that keeps environments.
    """
    lock = LOCK.read_text(encoding="utf-8")
    pins = "".join(line for line in lock.splitlines(True) if line.partition("==")[0] not in free)
    requirements = "\n".join(packages) if packages else lock
    key = hashlib.sha256(f"{sys.version}\n{requirements}\n{pins}".encode()).hexdigest()[:12]
    folder = cache / "environments" / key
    if (folder / "complete").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "constraints.txt").write_text(pins, encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
    environment = {**os.environ, "UV_COMPILE_BYTECODE": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for command in (
        f"venv -q --clear --python {sys.executable} env",
        "pip install -q --python env/bin/python -r requirements.txt -c constraints.txt",
    ):
        subprocess.run([UV, *command.split()], cwd=folder, env=environment, check=True)
    (folder / "complete").touch()
    return folder


def versions(environment: Path) -> dict[str, str]:
    """The version of each package in an environment."""
    listed = subprocess.run(
        [UV, "pip", "freeze", "--python", environment / "env/bin/python"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return dict(line.split("==") for line in listed.splitlines() if "==" in line)


def surroundings(environment: Path, folder: Path) -> dict[str, str]:
    """The variables of a command: the environment's programs on the path, and an own home."""
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    fonts = environment / "matplotlib"  # a cache that all forms share
    path = os.pathsep.join([str(environment / "env/bin"), os.defpath])
    variables = {"HOME": str(home), "MPLCONFIGDIR": str(fonts), "PATH": path}
    return ENVIRONMENT | variables


def run(
    script: str, arguments: list[str], folder: Path, environment: Mapping[str, str]
) -> Measured:
    """Run shell lines under GNU time.

    Raises:
        RuntimeError: The command failed; the message has the end of its output.
    """
    report, peaks, log = (folder.with_suffix(ending) for ending in (".time", ".peaks", ".log"))
    peaks.unlink(missing_ok=True)
    timed = [TIME, "-v", "-o", report, "bash", "-ec", script, "bash", *arguments]
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.run(
            timed,
            cwd=folder,
            env={**environment, "BENCHMARK_PEAKS": str(peaks)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
        seconds = time.perf_counter() - started
    if process.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-30:])
        raise RuntimeError(f"{script!r} ended with {process.returncode}:\n{tail}")
    kib = re.search(r"Maximum resident set size \(kbytes\): (\d+)", report.read_text())
    steps = read_steps(peaks)
    largest = max([int(kib[1]) / 1024, *(step["mib"] for step in steps.values())])
    return Measured(seconds, largest, steps)


def read_steps(peaks: Path) -> dict[str, dict[str, float]]:
    """Seconds and MiB of each step that ran in its own process: see peaks/sitecustomize.py."""
    steps = {}
    for line in peaks.read_text(encoding="utf-8").splitlines() if peaks.exists() else []:
        seconds, kib, folder, command = line.split("\t")
        bare = re.search(r"science\.py (\w+)$", command)
        step = bare[1] if bare else STEPS.get(folder)
        if step and ".py" in command:
            steps[step] = {"seconds": float(seconds), "mib": int(kib) / 1024}
    return steps
