"""Commands that were given before, each with the configuration that Hydra made of it.

Composing a configuration takes Hydra longer than all else that a run has to do whose steps are
all finished. So the configuration of a run that succeeds is kept in the state folder, under all
that it was made of: the words that were typed, the configuration's files, and the environment
variables that those name.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.job import Job
from pipeline.core.files import write_whole
from pipeline.core.settings import ROOT

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOLDER, KEPT = "commands", 100
FOR_HYDRA = ("-", "hydra", "explain")  # words that begin so do more than set a value
KNOWN = ("root", "root_url", "run_id", "in_sweep", "oc.env")  # what ${...:} may call
WRITTEN = ("config.yaml", "hydra.yaml", "overrides.yaml")  # by Hydra, of each run


class Recalled(dict):
    """A section of a configuration, without OmegaConf: ``config.main.steps``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True)
class Command:
    """What is kept of a command.

    Attributes:
        run: the run that it was.
        config: its configuration, resolved.
        overrides: its words, as Hydra read them.
        files: what Hydra wrote into that run's folder, by name.
    """

    run: str
    config: Recalled
    overrides: list[str]
    files: dict[str, str]


def place(words: list[str]) -> Path | None:
    """Where a command is kept; None for one that can't be.

    Args:
        words: its arguments.
    """
    if any(word.lstrip("+~").startswith(FOR_HYDRA) for word in words):
        return None
    texts = [ROOT / "config.yaml", *sorted((ROOT / "conf").rglob("*.yaml"))]
    others = [ROOT / "main.py", ROOT / "pipeline" / "config.py", ROOT / "requirements.lock"]
    files = {str(file): file.read_bytes() for file in texts + others if file.is_file()}
    read = [*words, *(files[str(file)].decode() for file in texts if str(file) in files)]
    called = re.findall(r"\$\{\s*([\w.]+)\s*:\s*(\w*)", "\n".join(read))
    if any(name not in KNOWN or (name == "oc.env" and not argument) for name, argument in called):
        return None
    variables = sorted({argument for name, argument in called if name == "oc.env"})
    made_of = [
        words,
        str(Path.cwd()),
        {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        {name: os.environ.get(name) for name in variables},
    ]
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return _state(words) / FOLDER / f"{digest}.json"


def _state(words: list[str]) -> Path:
    """The state folder that a command's words name, as far as that shows without Hydra."""
    named = [word.partition("=")[2] for word in words if word.startswith("main.state_dir=")]
    return Path(named[-1] if named else ROOT / ".pipeline").absolute()


def recall(path: Path | None) -> Command | None:
    """The command that is kept in a place."""
    if path is None or not path.is_file():
        return None
    return Command(**json.loads(path.read_text(encoding="utf-8"), object_hook=Recalled))


def keep(path: Path | None, config: "DictConfig", job: Job) -> None:
    """Keep the command that is being carried out, if all that it does can be done again by it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra, state = HydraConfig.get(), Path(config.main.state_dir).absolute()
    usual = not (hydra.job.chdir or hydra.job.env_set) and [*hydra.callbacks] == ["sweep"]
    folders = (job.folder.parent, path and path.parent)
    written = [job.folder / (hydra.output_subdir or "") / name for name in WRITTEN]
    if not usual or config.main.force or folders != (state / "runs", state / FOLDER):
        return
    if not all(file.is_file() for file in written):
        return
    kept = {
        "run": job.id,
        "config": OmegaConf.to_container(config, resolve=True),
        "overrides": job.overrides,
        "files": {file.name: file.read_text(encoding="utf-8") for file in written},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(kept))
    for old in sorted(path.parent.glob("*.json"), key=os.path.getmtime)[:-KEPT]:
        old.unlink(missing_ok=True)
